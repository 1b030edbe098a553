"""Conversations → features: written out by a chat template, tokenised once as a whole, with what is trained of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.chat.chat_template import ChatTemplate
from prunedlora.tasks.chat.chat_tokens import ChatTokens, Tokens
from prunedlora.tasks.chat.kinds import named
from prunedlora.tasks.chat.template_findings import MOST_LOOKED_AT, asks_otherwise, does_not_stop, leaves_out, lines
from prunedlora.tasks.chat.trained import endings, last_turn, trained_spans
from prunedlora.tasks.chat.turns import num_shared
from prunedlora.tasks.chat.written import Written
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.shortening import cut_in_text, prompt_limit
from prunedlora.tasks.task import ChatSettings, Features, Shortened, TrainOn

SYSTEM = ("system", "developer")
LOOKED_AT = 2
"""Rows of each kind of turn in which the token that ends it is looked up."""


class Conversations:
    """Examples that a chat template writes out. Those without a conversation are a user's turn and the assistant's."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        settings: ChatSettings,
        max_length: int | None,
        max_new_tokens: int | None,
    ) -> None:
        """Raises DataError: the template (ChatTemplate), a tokenizer that does not say where tokens lie."""
        self._template = ChatTemplate(settings, tokenizer)
        self._reader = ChatTokens(tokenizer)
        self._train_on = settings.train_on
        self._max_length = max_length
        self._room = max_new_tokens or 0
        self._bos = tokenizer.bos_token_id

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the features beside the tokenizer and the limits."""
        return {"template": self._template.identity, "train_on": self._train_on}

    def encode(self, examples: Sequence[Example], *, prompts: bool) -> list[Features]:
        """Features in the order of the examples.

        Raises DataError, with the example's place: the template refuses it, a turn of it cannot be found or does not
        end, nothing of it is trained.
        """
        rows: list[Written] = []
        for example in examples:
            with _at(example):
                row = Written(self._template, _conversation(example))
                if prompts:
                    row.prompt(row.turns[-1])
                rows.append(row)
        wholes = self._reader.whole([row.text for row in rows])
        prompted = self._reader.whole([row.prompt(row.turns[-1]) for row in rows] if prompts else [])
        features = []
        for number, (example, row, whole) in enumerate(zip(examples, rows, wholes, strict=True)):
            with _at(example):
                asked = None
                if prompts:
                    asked = self._reader.as_text(row.rendered_prompt(row.turns[-1]), prompted[number]).ids
                features.append(self._features(example, row, self._reader.as_text(row.whole, whole), asked))
        return features

    @property
    def template(self) -> str:
        """The template's text; of a tokenizer with several that of conversations without tools."""
        return str(self._template.identity["texts"][0])

    def answer(self, example: Example) -> str:
        """What a model that has learnt the example writes as the assistant's last turn, as answers are read: without
        special tokens and outer white space. Raises DataError as `encode`."""
        with _at(example):
            row = Written(self._template, _conversation(example))
            tokens = self._reader.read(row.whole)
            turn = last_turn(row, tokens, self._reader)
            return self._reader.decode(tokens.ids[turn.begin : turn.end]).strip()

    def ends(self, examples: Sequence[Example]) -> list[int]:
        """The tokens that end the assistant's turns in these examples, in the order of their ids. Turns of one kind end
        alike: some of each are looked at. Raises DataError as `encode`."""
        looked_at: dict[object, int] = {}
        ends: set[int] = set()
        for example in examples:
            kinds = self._kinds(_conversation(example))
            if all(looked_at.get(kind, 0) >= LOOKED_AT for kind in kinds):
                continue
            looked_at |= {kind: looked_at.get(kind, 0) + 1 for kind in kinds}
            with _at(example):
                row = Written(self._template, _conversation(example))
                tokens = self._reader.read(row.whole)
                ends |= endings(row, tokens, self._trains(row.conversation), self._reader)
        return sorted(ends)

    def warnings(self, examples: Sequence[Example]) -> Iterator[str]:
        """What the template does with the first of these examples that is worth a warning (template_findings.py).
        Raises DataError as `encode`."""
        asked, left_out, endless = [], [], 0
        chosen = examples[:MOST_LOOKED_AT]
        for example in chosen:
            with _at(example):
                row = Written(self._template, _conversation(example))
                train_on = self._trains(row.conversation)
                asked += [end] if (end := asks_otherwise(row)) is not None else []
                left_out += [text] if (text := leaves_out(row, train_on)) is not None else []
                if row.marks is not None:
                    endless += does_not_stop(row, self._reader.read(row.whole), train_on, self._reader)
        yield from lines(asked, left_out, endless, len(chosen))

    def check_answers(self, example: Example, ends: Sequence[str]) -> None:
        """Raises DataError for a turn of the assistant that spells one of the tokens that `ends` it behind its
        text."""
        for message in _conversation(example).messages:
            content = message.get("content")
            if message.get("role") != "assistant" or not isinstance(content, str):
                continue
            if (end := next(filter(content.rstrip().endswith, ends), None)) is not None:
                raise DataError(
                    f"{named(example)}: a turn of the assistant ends in {end!r}, which ends every turn by itself: take "
                    f"it out of the data ({content[-80:]!r})"
                )

    def _kinds(self, conversation: Conversation) -> set[object]:
        """Of its turns that are trained."""
        messages, every = conversation.messages, self._trains(conversation) == "assistant"
        tools, options = bool(conversation.tools), tuple(sorted(conversation.options))
        kinds: set[object] = set()
        for index, message in enumerate(messages):
            following = [after.get("role") for after in messages[index + 1 : index + 2]]
            if message.get("role") == "assistant" and (every or not following):
                keys = tuple(sorted(key for key, value in message.items() if value))
                kinds.add((keys, *following, tools, options))
        return kinds

    def _trains(self, conversation: Conversation) -> TrainOn:
        if self._train_on is not None:
            return self._train_on
        return "assistant" if conversation.num_prompt is None else "completion"

    def _prompt(self, row: Written, turn: int) -> list[int]:
        return self._reader.read(row.rendered_prompt(turn)).ids

    def _features(self, example: Example, row: Written, whole: Tokens, asked: list[int] | None) -> Features:
        shortened = Shortened.NOT
        if not self._fits(row, whole, asked):
            row, whole, shortened = self._without_oldest(row, whole)
            if shortened is Shortened.IN_TEXT:
                row, whole = self._with_shorter_texts(row, whole)
            asked = None if asked is None else self._prompt(row, row.turns[-1])
        train_on, border = self._trains(row.conversation), 0
        if train_on == "completion" or shortened is Shortened.IN_TEXT:
            at = self._answered(row)
            before = asked if asked is not None and at == row.turns[-1] else self._prompt(row, at)
            border = num_shared(before, whole.ids)
        ids, targets = whole.ids, trained_spans(row, whole, train_on, self._reader, border)
        if shortened is not Shortened.IN_TEXT:
            return Features(ids, targets, shortened, example, asked)
        assert self._max_length is not None
        kept = int(ids[:1] == [self._bos] and self._bos not in ids[1:])  # some open every turn with it
        cut = cut_in_text(ids, targets, border, self._max_length, room=self._room, kept=kept)
        if not cut.targets:
            raise DataError(f"no token of it is trained once it is cut to {self._max_length} tokens")
        if asked is not None:
            most = self._max_length - max(self._room, 1)
            kept = min(kept, most - 1)
            asked = asked if len(asked) <= most else [*asked[:kept], *asked[kept - most :]]
        return Features(cut.ids, cut.targets, shortened, example, asked)

    def _answered(self, row: Written) -> int:
        """The message that the prompt ends before."""
        number = row.conversation.num_prompt
        return number if number is not None and self._trains(row.conversation) == "completion" else row.turns[-1]

    def _with_shorter_texts(self, row: Written, whole: Tokens) -> tuple[Written, Tokens]:
        """The conversation with as much cut off the beginnings of its prompt's longest texts as makes the prompt fit
        (shortening.py), so that its turns stay turns; as it is where that would leave less than a quarter of the room
        for prompts to a text that is cut."""
        assert self._max_length is not None
        at, messages, told = self._answered(row), row.conversation.messages, self._trains(row.conversation)
        trained = ("assistant",) if told in ("assistant", "all") else ()
        texts = {
            index: message["content"]
            for index, message in enumerate(messages[:at])
            if isinstance(message.get("content"), str) and message.get("role") not in trained
        }
        shorter, tokens, least = row, whole, max(1, (self._max_length - self._room) // 4)
        for index in sorted(texts, key=lambda index: (-len(texts[index]), index)):
            (parts,) = self._reader.whole([texts[index]])
            gone, most = 0, len(parts.ids) - least
            while (excess := self._excess(shorter, tokens, at)) > 0 and gone < most:
                gone = min(gone + excess, most)
                shorter = shorter.saying(index, texts[index][parts.offsets[gone][0] :])
                tokens = self._reader.read(shorter.whole)
            if excess <= 0:
                return shorter, tokens
        return row, whole

    def _excess(self, row: Written, whole: Tokens, at: int) -> int:
        """How many tokens its prompt has too many; none where it fits."""
        assert self._max_length is not None
        prompt = self._prompt(row, at)
        border = num_shared(prompt, whole.ids)
        return len(prompt) - prompt_limit(len(prompt), len(whole.ids) - border, self._max_length, self._room)

    def _fits(self, row: Written, whole: Tokens, asked: list[int] | None) -> bool:
        """Whether it is within the limit, with room for what is generated behind what is asked."""
        if self._max_length is None:
            return True
        if len(whole.ids) > self._max_length:
            return False
        if asked is None:
            if len(whole.ids) + self._room <= self._max_length:
                return True
            asked = self._prompt(row, row.turns[-1])
        return len(asked) + self._room <= self._max_length

    def _without_oldest(self, row: Written, whole: Tokens) -> tuple[Written, Tokens, Shortened]:
        """The conversation without as many of its oldest exchanges as must go, or with its last exchange alone where
        that is too long too."""
        messages, last = row.conversation.messages, row.conversation.num_prompt or row.turns[-1]
        first = sum(1 for _ in takewhile(lambda message: message.get("role") in SYSTEM, messages))
        starts = [index for index in range(first + 1, last) if messages[index].get("role") == "user"]

        def starting(number: int) -> tuple[Written, Tokens]:
            rest = row.without(first, starts[number])
            return rest, self._reader.read(rest.whole)

        low, high, fitting = 0, len(starts), None
        while low < high:
            middle = (low + high) // 2
            rest, tokens = starting(middle)
            if self._fits(rest, tokens, None):
                high, fitting = middle, (rest, tokens)
            else:
                low = middle + 1
        if fitting is not None:
            return *fitting, Shortened.AT_TURNS
        return *(starting(-1) if starts else (row, whole)), Shortened.IN_TEXT


def _conversation(example: Example) -> Conversation:
    if example.conversation is not None:
        return example.conversation
    system = [] if example.system is None else [{"role": "system", "content": example.system}]
    turns = {"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.target}
    return Conversation((*system, *turns))


@contextmanager
def _at(example: Example) -> Iterator[None]:
    """Errors of data within say which example they are about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{named(example)}: {error}") from error
