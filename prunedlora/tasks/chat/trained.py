"""What of a conversation is trained, in tokens."""

from itertools import takewhile

from prunedlora.tasks.chat.chat_tokens import ChatTokens, Tokens
from prunedlora.tasks.chat.turns import Turn, find_turn, goes_on
from prunedlora.tasks.chat.written import Written
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.task import TrainOn


def trained_spans(written: Written, tokens: Tokens, train_on: TrainOn, reader: ChatTokens, border: int) -> list[int]:
    """[begin, end, begin, end, …] of the spans, as in Features.targets. The first token, which nothing predicts, is in
    none of them.

    assistant: every turn of the assistant from behind the generation prompt to the token that ends it, or exactly what
    the template marks; last: the last of them; completion: all tokens from `border` on; all: everything.
    Raises DataError where a turn cannot be found, or nothing is trained.
    """
    if train_on in ("all", "completion"):
        spans = [(0 if train_on == "all" else border, len(tokens.ids))]
    elif written.marks is not None:
        begin = last_turn(written, tokens, reader).begin if train_on == "last" else 0
        spans = [(max(first, begin), end) for first, end in _marked(written, tokens)]
    else:
        chosen = written.turns if train_on == "assistant" else written.turns[-1:]
        turns = [find_turn(written, tokens, index, reader) for index in chosen]
        spans = [(turn.begin, turn.end + 1) for turn in turns]
    targets: list[int] = []
    for first, end in spans:
        begin = max(first, 1)
        if begin >= end:
            continue
        if targets and begin <= targets[-1]:
            targets[-1] = max(end, targets[-1])
        else:
            targets += [begin, end]
    if not targets:
        raise DataError("no token of it is trained")
    return targets


def endings(written: Written, tokens: Tokens, train_on: TrainOn, reader: ChatTokens) -> set[int]:
    """The ids of the tokens that end the assistant's turns that are trained: of the last one, where not turns are.
    Raises DataError as `trained_spans`."""
    found = {last_turn(written, tokens, reader).ending}
    if train_on == "assistant" and written.marks is None:
        found |= {find_turn(written, tokens, index, reader).ending for index in written.turns[:-1]}
    elif train_on == "assistant":
        found |= {_ending(written, tokens, span, reader, several=True)[1] for span in _marked(written, tokens)[:-1]}
    return {ending for ending in found if ending is not None}


def last_turn(written: Written, tokens: Tokens, reader: ChatTokens) -> Turn:
    """The assistant's last turn: what its answer is made of, and the token that ends it. Raises DataError."""
    index = written.turns[-1]
    if written.marks is None:
        return find_turn(written, tokens, index, reader)
    spans = _marked(written, tokens)
    if not spans:
        raise DataError("the chat template marks nothing of it with {% generation %}")
    begin, end = spans[-1]
    prompt = written.prompt(index)
    if written.text.startswith(prompt):  # a turn may be marked in parts
        border = tokens.within(len(prompt), len(written.text))[0]
        begin = min(max(first, border) for first, last in spans if last > border) if end > border else begin
    several = goes_on(written.conversation.messages[index])
    return Turn(begin, *_ending(written, tokens, (begin, end), reader, several=several))


def _ending(
    written: Written, tokens: Tokens, span: tuple[int, int], reader: ChatTokens, *, several: bool
) -> tuple[int, int | None]:
    """(where what is said in a marked span ends, the id of the token that ends it): of the special tokens at the end of
    the span the first, or the last where `several` may be there; or else the one behind it."""
    begin, end = span
    closing = list(takewhile(lambda i: _closes(written, tokens, i, reader), reversed(range(begin, end))))
    if special := [index for index in closing if tokens.ids[index] in reader.special]:
        at = special[0 if several else -1]
        return at, tokens.ids[at]
    following = [i for i in range(end, len(tokens.ids)) if written.text[slice(*tokens.offsets[i])].strip()]
    if following and tokens.ids[following[0]] in reader.added:
        return end, tokens.ids[following[0]]
    return end, None


def _closes(written: Written, tokens: Tokens, index: int, reader: ChatTokens) -> bool:
    return tokens.ids[index] in reader.special or not written.text[slice(*tokens.offsets[index])].strip()


def _marked(written: Written, tokens: Tokens) -> list[tuple[int, int]]:
    spans = [tokens.within(begin, end) for begin, end in written.marks or ()]
    return [(first, end) for first, end in spans if first < end]
