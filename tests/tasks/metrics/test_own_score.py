"""Functions of the user's own: how they are loaded and called, and a sentence for all that can be wrong with them."""

import sys
from pathlib import Path

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.metrics.own_score import OwnScore, OwnScoreError
from prunedlora.trial.failures import RECORDED, row_of

EXAMPLE = Example("q", "yes", columns={"level": 3}, place="dataset 'chats.jsonl', row 12")


@pytest.fixture
def own(tmp_path):
    def make(code, function="score"):
        file = tmp_path / "metrics.py"
        file.write_text(code)
        return OwnScore(f"{file}:{function}")

    return make


def refused(call):
    with pytest.raises(OwnScoreError) as caught:
        call()
    return str(caught.value)


def body(lines):
    return "def score(answer, example):\n    " + "\n    ".join(lines.splitlines())


@pytest.mark.parametrize(
    ("value", "expected"), [("True", 1.0), ("False", 0.0), ("1", 1.0), ("0.25", 0.25), ("answer == ' yes'", 1.0)]
)
def test_truth_values_and_numbers_are_scores(own, value, expected):
    found = own(body(f"return {value}"))(" yes", EXAMPLE)
    assert (type(found), found) == (float, expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("None", "score gave None, a NoneType, on the answer"),
        ("'1'", "score gave '1', a str, on"),
        ("float('nan')", "score gave nan, on"),
        ("float('inf')", "score gave inf, on"),
        ("-0.1", "score gave -0.1, on"),
        ("2", "score gave 2, on"),
    ],
)
def test_what_is_no_score(own, value, said):
    message = refused(lambda: own(body(f"return {value}"))("a" * 200, EXAMPLE))
    assert f"metrics.py:score': {said}" in message
    assert f"{'a' * 80}…' (dataset 'chats.jsonl', row 12); a score is a number from 0 to 1" in message


@pytest.mark.parametrize("raised", ["FileNotFoundError('x')", "MemoryError()", "ZeroDivisionError", "SystemExit(1)"])
def test_a_score_that_raises_is_the_user_s_fault_and_tells_where(own, raised):
    score = own("def helper(text):\n    raise " + raised + "\n\n" + body("return helper(answer)"))
    with pytest.raises(OwnScoreError) as caught:
        score("no", EXAMPLE)
    message = str(caught.value)
    assert "metrics.py:score': score raised on the answer 'no' (dataset 'chats.jsonl', row 12)\nTraceback" in message
    assert "line 2, in helper\n    raise " in message
    assert raised.partition("(")[0] in message.splitlines()[-1]
    assert "own_score.py" not in message
    for loading in (False, True):
        row = row_of(caught.value, loading=loading)
        assert (row.fault, row.consequence) == ("user", RECORDED)


def test_what_the_function_reads(own):
    seen = own("seen = []\n" + body("seen.append(dict(example))\nexample.clear()\nreturn 1"))
    talk = Conversation(({"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}), ({"name": "f"},))
    for example in (EXAMPLE, Example("q", "yes", conversation=talk)):
        assert seen("yes", example) == seen("yes", example) == 1.0
    of_row, _, of_talk, again = sys.modules[seen._function.__module__].seen
    assert of_row == {"prompt": "q", "target": "yes", "level": 3}
    assert of_talk == again == {
        "prompt": "q", "target": "yes", "messages": list(talk.messages), "tools": [{"name": "f"}]
    }  # fmt: skip
    with pytest.raises(DataError, match=r"score_columns names 'target', which a function of one's own finds there alr"):
        seen("yes", Example("q", "yes", columns={"target": 1}))


def test_the_file_is_a_module_of_its_own(own, tmp_path):
    code = (
        "from __future__ import annotations\nimport dataclasses\n\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n\n"
    )
    one = own(code + body("return A().x"))
    assert one("", EXAMPLE) == 1.0
    assert "metrics" not in sys.modules
    two = own(code + body("return A().x * .5"))  # written anew within the same second
    assert (one("", EXAMPLE), two("", EXAMPLE)) == (1.0, 0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.py"]  # no compiled file


def test_files_and_functions_that_cannot_be_had(own, tmp_path):
    assert "/none.py' does not exist (" in refused(lambda: OwnScore(f"{tmp_path}/none.py:score"))
    assert "has no function 'sore'; there are ['score']" in refused(lambda: own(body("return 1"), "sore"))
    assert "has no function 'score'; there is none" in refused(lambda: own("x = 1"))
    assert "has under 'score' no function but a int" in refused(lambda: own("score = 1"))
    one = refused(lambda: own("def score(answer): return 1"))
    assert "score(answer) cannot be called with two values, score(answer, example): too many positional" in one
    assert "missing a required argument: 'more'" in refused(lambda: own("def score(a, b, more): return 1"))
    assert own("def score(a, b, more=1): return more")("", EXAMPLE) == 1.0
    assert "the file does not run\n" in (syntax := refused(lambda: own("def score(:")))
    assert syntax.endswith("SyntaxError: invalid syntax")
    Path(tmp_path / "beside.py").write_text("")
    hint = "the file does not run (the file is loaded by itself: files beside it cannot be imported)\n"
    assert hint in (missing := refused(lambda: own("import beside")))
    assert missing.endswith("ModuleNotFoundError: No module named 'beside'")


def test_right_answers_are_tried_evenly_and_none_may_all_be_zero(own):
    examples = [Example(f"q{i}", f"{i}") for i in range(1000)]
    code = "seen = []\n" + body(
        "seen.append(int(answer))\nassert answer == example['target']\nreturn int(answer) > 900"
    )
    score = own(code)
    score.check("test", examples)
    assert sys.modules[score._function.__module__].seen == list(range(0, 1000, 20))
    message = refused(lambda: score.check("test", examples[:3]))
    assert "score gives 0 to the right answer of each of the 3 examples of test that were tried" in message
    assert message.endswith("the first: the answer '0' (prompt 'q0')")
    assert "AssertionError" not in refused(lambda: own(body("return 3")).check("test", examples))
    score.check("test", [])


def test_what_the_function_changes_deep_in_an_example_the_next_call_does_not_see(own):
    talk = Conversation(({"role": "user", "content": "q", "parts": [1]},), ({"name": "f", "args": {}},))
    example = Example("q", "yes", columns={"rows": [{"a": 1}]}, conversation=talk)
    score = own(
        body(
            "new = len(example['rows'][0]) + len(example['messages'][0]['parts']) + len(example['tools'][0]['args'])\n"
            "example['rows'][0]['b'] = 2\nexample['messages'][0]['parts'].append(2)\n"
            "example['tools'][0]['args']['x'] = 1\nreturn new == 2"
        )
    )
    assert score("yes", example) == score("yes", example) == 1.0
    assert example.columns == {"rows": [{"a": 1}]}


@pytest.mark.parametrize("value", ["bool_(True)", "float32(1)", "int64(1)"])
def test_scalars_of_numpy_are_scores(own, value):
    found = own("import numpy\n" + body(f"return numpy.{value}"))("yes", EXAMPLE)
    assert (type(found), found) == (float, 1.0)
    assert "gave nan, on" in refused(lambda: own("import numpy\n" + body("return numpy.float32('nan')"))("y", EXAMPLE))


def test_no_code_of_the_user_s_gets_beyond_its_error(own):
    for error in ("GeneratorExit", "SystemExit(0)", "type('Own', (BaseException,), {})('x')"):
        assert "score raised on" in refused(lambda error=error: own(body(f"raise {error}"))("y", EXAMPLE))
        assert "the file does not run" in refused(lambda error=error: own(f"raise {error}"))
    with pytest.raises(KeyboardInterrupt):
        own(body("raise KeyboardInterrupt"))("y", EXAMPLE)
    code = "class A:\n    def __repr__(self):\n        raise ValueError('x')\n\n" + body("return A()")
    said = "score gave what cannot be shown (its __repr__ raises ValueError), a A, on the answer 'y'"
    assert said in refused(lambda: own(code)("y", EXAMPLE))


def test_a_message_is_short_whatever_is_raised(own):
    for text in ("'x' * 10**6", "'x\\n' * 10**5"):
        message = refused(lambda text=text: own(body(f"raise ValueError({text})"))("y" * 10**6, EXAMPLE))
        assert len(message) < 4_600
        assert len(message.splitlines()) < 33
        assert "\n…" in message
