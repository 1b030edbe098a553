"""Whether a prompt and its answer meet as they would in a running text.

They are tokenised apart. Most tokenizers of causal models write a word with the space before it as one token, so after
a prompt that ends in that space the model is to go on as it has seldom seen a text go on: with a word that has lost its
space. What fits depends on tokenizer and data (some write digits without the space, some tokens are single characters,
some put a space before every text themselves), so it is tried on examples.
"""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.example import Example

MOST_TRIED = 200
RARE = 0.1
"""Share of examples from which on it is worth a warning: here and there any two texts run into one token."""

Pair = tuple[str, str]
MOVED = "take the space off the end of each prompt and put it at the beginning of its completion"
DROPPED = "take the spaces off the end of each prompt and the beginning of its completion"


def border_warning(
    prompt: str | None, target: str | None, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """What is wrong at the border of prompt and target, and the templates that would be right where some are; None
    where nothing is. `prompt` and `target` are the templates that the examples were made with; None for rows that have
    both texts as they are, in which then the white space is to be changed."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def is_read_as(pair: Pair, text: str) -> bool:
        return ids(pair[0]) + ids(pair[1]) == ids(text)

    def fits(pair: Pair) -> bool:
        return is_read_as(pair, "".join(pair)) or has_own_space(pair)

    def has_own_space(pair: Pair) -> bool:
        return not _is_spaced(pair) and is_read_as(pair, " ".join(pair))

    def is_glued(pair: Pair) -> bool:
        if _is_spaced(pair) or not _ends_a_word(pair[0]) or not (pair[1][0].isascii() and pair[1][0].isalnum()):
            return False
        takes_space = ids(" " + pair[1])[:1] != ids(" ")[:1]
        return takes_space and not has_own_space(pair)

    def is_mended(change: Callable[[Pair], Pair]) -> bool:
        return sum(is_read_as(change(pair), _spaced(pair)) for pair in pairs) >= (1 - RARE) * len(pairs)

    pairs = [(example.prompt, example.target) for example in examples[:MOST_TRIED]]
    both = f"prompt {prompt!r} and target {target!r}" if prompt is not None else "prompt and completion of the rows"
    glued, odd = (sum(map(kind, pairs)) for kind in (is_glued, lambda pair: not fits(pair)))
    if glued > RARE * len(pairs):
        better = "begin each completion with a space" if target is None else f"write the target as {' ' + target!r}"
        return (
            f"no white space parts {both}: the model reads {_border(*next(filter(is_glued, pairs)))!r}, in {glued} of "
            f"{len(pairs)} examples; {better}"
        )
    if odd <= RARE * len(pairs):
        return None
    found = f"in {odd} of {len(pairs)} examples {both} do not meet in tokens that the tokenizer makes of a running text"
    ending = [pair[0] for pair in pairs if not fits(pair)] if prompt is None else [prompt]
    if all(text != text.rstrip() for text in ending):
        found += ": the prompt ends in white space, which is part of the next word's token"
    for change, words in ((_space_moved, MOVED), (_space_dropped, DROPPED)):
        if is_mended(change):
            # Templates without white space at the border have it from the data.
            if prompt is None or target is None or change((prompt, target)) == (prompt, target):
                return f"{found}; {words}"
            templates = change((prompt, target))
            return f"{found}; write them as {templates[0]!r} and {templates[1]!r}"
    return found


def _is_spaced(pair: Pair) -> bool:
    return pair[0][-1].isspace() or pair[1][0].isspace()


def _spaced(pair: Pair) -> str:
    """The text as it is meant, with just one space where there were several."""
    prompt, target = pair[0].rstrip(), pair[1].lstrip()
    between = "".join(pair)[len(prompt) : len("".join(pair)) - len(target)]
    return prompt + (" " if set(between) == {" "} else between) + target


def _space_moved(pair: Pair) -> Pair:
    prompt = pair[0].rstrip(" ")
    return prompt, (" " if prompt != pair[0] else "") + pair[1].lstrip(" ")


def _space_dropped(pair: Pair) -> Pair:
    return pair[0].rstrip(" "), pair[1].lstrip(" ")


def _ends_a_word(text: str) -> bool:
    return text[-1].isalnum() or text[-1] in ".,:;?!"


def _border(prompt: str, target: str) -> str:
    return f"…{prompt[-12:]}{target[:12]}…"
