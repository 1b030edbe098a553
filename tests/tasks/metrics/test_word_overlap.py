import random

import pytest

from prunedlora.tasks.metrics.word_overlap import rouge_l, token_f1, words


def longest_common(one, other):
    """By recursion over prefixes, as a table."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_known_sentences():
    # "the cat on mat" of six words each.
    assert rouge_l("The cat is on a mat.", "the cat sat on the mat") == pytest.approx(4 / 6)
    assert token_f1("mat on cat the", "the cat sat on the mat") == pytest.approx(8 / 10)
    assert rouge_l("mat on cat the", "the cat sat on the mat") < 0.5
    assert token_f1("the the the", "the cat") == pytest.approx(2 / 5)


def test_words_of_every_script():
    assert words("Größe: 3.5 km_h!") == ["grösse", "3", "5", "km", "h"]
    assert words("東京は晴れ, ok") == ["東", "京", "は", "晴", "れ", "ok"]
    assert rouge_l("東京は雨", "東京は晴れ") == pytest.approx(6 / 9)


@pytest.mark.parametrize("metric", [rouge_l, token_f1])
def test_without_a_word(metric):
    assert metric("", "") == 1.0
    assert metric("", "a") == metric("a", "") == metric("a", "!") == 0.0
    assert metric(" :-)\n", ":-)") == 1.0
    assert metric(":-(", ":-)") == 0.0


def test_random_texts_by_their_definition_and_as_rouge_score_has_them():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcde", k=draw.randint(1, 12))) for _ in range(60)]
    for answer, target in zip(texts[::2], texts[1::2], strict=True):
        one, other = answer.split(), target.split()
        assert rouge_l(answer, target) == pytest.approx(2 * longest_common(one, other) / (len(one) + len(other)))
        shared = sum(min(one.count(word), other.count(word)) for word in "abcde")
        assert token_f1(answer, target) == pytest.approx(2 * shared / (len(one) + len(other)))
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    for answer, target in [*zip(texts[::2], texts[1::2], strict=True), ("It's 3.5-fold, A_b!", "its 3 fold a b")]:
        assert rouge_l(answer, target) == pytest.approx(scorer.score(target, answer)["rougeL"].fmeasure)
