"""What chat templates do with conversations that is worth a warning."""

from pathlib import Path

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from tests.tasks.chat.chat_families import ENDING, FAMILIES, talk
from tests.tasks.chat.shown import task_over

OPENS_THOUGHT = (
    "{% for m in messages %}{% set said = m.content.split('</think>')[-1] %}"
    "{{ '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
ENDS_UNMARKED = FAMILIES["marked"].template.replace(
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}", "{{ m.content }}{% endgeneration %}{{ '<|im_end|>' }}"
)


def warnings(family: str, *examples: Example, text: str | None = None, folder: Path, **settings: object) -> list[str]:
    if text is not None:
        settings["template"] = str(folder / "own.jinja")
        (folder / "own.jinja").write_text(text)
    return list(task_over(family, *examples, **settings).warnings(examples))


@pytest.mark.parametrize("family", ENDING)
def test_templates_of_the_families_are_not_warned_of(tmp_path: Path, family: str) -> None:
    assert warnings(family, talk("a ", " b\n", "c", "d"), talk("e", "f"), folder=tmp_path) == []


def test_a_prompt_that_is_never_trained(tmp_path: Path) -> None:
    examples = [talk("a", "b")] * 200 + [talk("c", "never looked at")]
    (found,) = warnings("thinking", *examples, text=OPENS_THOUGHT, folder=tmp_path)
    assert found.startswith("in 200 of 200 conversations looked at the chat template does not write the prompt that")
    assert "(which ends in '" in found
    assert "assistant\\n<think>\\n') before the answer" in found


def test_what_a_template_leaves_out(tmp_path: Path) -> None:
    thought, plain = talk("a", "<think>\nwhy\n</think>\n\nb"), talk("a", "b")
    _, found = warnings("thinking", thought, plain, text=OPENS_THOUGHT, folder=tmp_path)
    assert found.startswith(
        "in 1 of 2 conversations looked at the chat template leaves out or changes what a trained tu"
    )
    assert "('<think>\\nwhy\\n</think>\\n\\nb'…)" in found
    assert warnings("thinking", thought, plain, folder=tmp_path) == []
    earlier = talk("a", "<think>why</think>b", "c", "d")
    assert len(warnings("thinking", earlier, folder=tmp_path)) == 1
    assert warnings("thinking", earlier, train_on="last", folder=tmp_path) == []


def test_marks_without_the_token_that_ends_a_turn(tmp_path: Path) -> None:
    (found,) = warnings("marked", talk("a", "b"), text=ENDS_UNMARKED, folder=tmp_path)
    assert found.startswith("in 1 of 1 conversations looked at the chat template's {% generation %} marks leave out")
    assert warnings("marked", talk("a", "b"), text=ENDS_UNMARKED, train_on="all", folder=tmp_path) == []


def test_options_of_a_row_that_the_template_does_not_read() -> None:
    for options, said in (
        (
            {"enable_thinkin": True},
            "its chat_template_kwargs has no effect: the tokenizer's chat template does not read",
        ),
        ({"bos_token": "x"}, "its chat_template_kwargs cannot set 'bos_token', a special token of the tokenizer"),
        ({"eos_token": "x"}, "cannot set 'eos_token'"),
    ):
        messages = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
        example = Example("p", "t", conversation=Conversation(messages, options=options), place="row 3")
        with pytest.raises(DataError, match=f"^row 3: .*{said}"):
            task_over("thinking", example)
