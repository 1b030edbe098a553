"""How many words two texts share: ROUGE-L and F1 over tokens, for answers that have no single right wording.

Words are runs of letters and digits in any script, in small letters; punctuation counts for nothing, and characters of
Chinese and Japanese, which part no words, are words each. Of ASCII text these are the words of Google's rouge-score
(without stemming), which, like torchmetrics, throws all other letters away.
"""

import re
from collections import Counter

from rapidfuzz.distance import LCSseq

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def rouge_l(answer: str, target: str) -> float:
    """F1 of the longest common subsequence of words, LCS, from 0 to 1 (Lin, https://aclanthology.org/W04-1013):
    2 LCS / (words of the answer + words of the target).

    Of two texts without a word: 1 where they are equal up to white space, else 0; of one such: 0.
    """
    given, wanted = words(answer), words(target)
    if not given and not wanted:
        return _same(answer, target)
    return 2 * LCSseq.similarity(given, wanted) / (len(given) + len(wanted))


def token_f1(answer: str, target: str) -> float:
    """F1 of the words as multisets, from 0 to 1, as SQuAD has it (https://arxiv.org/abs/1606.05250) but for English
    articles, which count here. Texts without a word as in `rouge_l`."""
    given, wanted = Counter(words(answer)), Counter(words(target))
    if not given and not wanted:
        return _same(answer, target)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def words(text: str) -> list[str]:
    """The words of a text, in their order."""
    return _WORD.findall(text.casefold())


def _same(answer: str, target: str) -> float:
    return float(answer.split() == target.split())
