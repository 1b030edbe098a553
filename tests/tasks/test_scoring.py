from pathlib import Path

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.metrics.own_score import OwnScore
from prunedlora.tasks.scoring import (
    check_scorable,
    cut_at,
    exact_match,
    final_number,
    rouge_l,
    token_f1,
    verifier,
)
from prunedlora.tasks.sources import Source, load_examples


def test_exact_match_is_up_to_white_space_only() -> None:
    assert exact_match("  a  b\n", Example("", "a b"))
    assert not exact_match("A b", Example("", "a b"))
    assert not exact_match("a b c", Example("", "a b"))


def test_final_number_compares_by_value() -> None:
    assert final_number("so 72.0", Example("", "48 + 24 = 72\n#### 72"))
    assert not final_number("72 or 73", Example("", "#### 72"))
    assert not final_number("", Example("", "#### 72"))
    assert final_number("12e2 / 1", Example("", "1,200.0")) is False  # an expression is not worked out
    assert final_number("\\frac{3}{4}", Example("", "#### 0.75"))


def test_final_number_compares_what_is_no_number_as_text() -> None:
    assert final_number("The answer is Tuesday.", Example("", "#### tuesday"))
    assert not final_number("The answer is Monday.", Example("", "#### tuesday"))
    assert not final_number(" .", Example("", "#### tuesday"))


def test_an_answer_ends_at_the_first_stop_text() -> None:
    assert cut_at("72\n\nQuestion: 1\n\n", ["Question:", "\n\n"]) == "72"
    assert cut_at("Question: 1", ["Question:"]) == ""
    assert cut_at("72", ["Question:"]) == cut_at("72", []) == "72"


def test_a_stop_text_inside_of_a_target() -> None:
    examples = (Example("q", "2 + 2 = 4\n#### 4"),)
    check_scorable("final_number", "test", examples, ["Question:", "####5"])
    check_scorable("final_number", "test", (Example("q", "#### 4\nQuestion: none"),), ["\nQuestion:"])
    with pytest.raises(DataError, match=r"evaluation.stop \['\+'\]: a target of test .* would be cut to '2 '"):
        check_scorable("final_number", "test", examples, ["+"])


def test_verifier_counts_full_marks_only() -> None:
    example = Example("", "a", {"a": 1.0, "b": 0.99}.__getitem__)
    assert verifier("a", example)
    assert verifier(" a\n", example)
    assert not verifier("b", example)


def test_an_answer_that_the_verifier_cannot_read_is_wrong() -> None:
    """reasoning_gym's prime_factorization raises ValueError on anything but numbers between its signs."""
    source = Source("reasoning_gym:prime_factorization", "{question}", "{answer}", seed=0, num_examples=2)
    examples = tuple(load_examples(source, 0))
    with pytest.raises(ValueError, match="invalid literal"):
        examples[0].verifier("The factors are 2 × 3")  # type: ignore[misc]
    assert not verifier("The factors are 2 × 3", examples[0])
    assert verifier(examples[0].target, examples[0])
    check_scorable("verifier", "test", examples)

    def raises(_: str) -> float:
        raise TypeError("no such thing")

    with pytest.raises(DataError, match="the verifier of test raises on the target 'a': TypeError"):
        check_scorable("verifier", "test", (Example("q", "a", raises),))


def test_examples_that_no_answer_could_satisfy() -> None:
    with pytest.raises(DataError, match=r"'verifier' needs a source with a verifier \(reasoning_gym\), which test has"):
        check_scorable("verifier", "test", (Example("q", "a"),))
    with pytest.raises(DataError, match=r"'final_number': a target of test has no final answer: '\.\.\.'"):
        check_scorable("final_number", "test", (Example("q", "1"), Example("q", "...")))
    check_scorable("final_number", "test", (Example("q", "1"), Example("q", "a")))
    check_scorable("exact_match", "test", (Example("q", "a"),))


def test_shared_words_are_scored_in_part() -> None:
    example = Example("q", "the cat sat")
    assert rouge_l("the dog sat", example) == token_f1("sat the dog", example) == pytest.approx(2 / 3)
    check_scorable("rouge_l", "test", (example, Example("q", "")))
    with pytest.raises(DataError, match=r"evaluation.stop \[' sat'\]: a target of test .* would be cut to 'the cat'"):
        check_scorable("rouge_l", "test", (example,), [" sat"])


def test_a_score_of_one_s_own_judges_what_a_stop_text_leaves(tmp_path: Path) -> None:
    file = tmp_path / "metrics.py"
    file.write_text("def first(answer, example): return 0.5 * (answer.split()[:1] == example['target'].split()[:1])")
    metric, examples = f"{file}:first", (Example("q", "the cat sat", place="dataset 'd', row 0"),)
    check_scorable(metric, "test", examples, [" sat"])
    with pytest.raises(DataError, match=r"evaluation.stop \['the'\]: a target of test .* would be cut to ''"):
        check_scorable(metric, "test", examples, ["the"])
    with pytest.raises(DataError, match="first gives 0 to the right answer of each of the 1 examples of test that we"):
        check_scorable(metric, "test", (Example("q", "x"),), scorer=OwnScore(own_file(tmp_path)))


def own_file(folder: Path) -> str:
    (folder / "zero.py").write_text("def first(answer, example): return 0")
    return f"{folder}/zero.py:first"
