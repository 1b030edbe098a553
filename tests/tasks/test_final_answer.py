"""Where the answer stands, what is a number, and what must not be taken for one another."""

from fractions import Fraction

import pytest

from prunedlora.tasks.final_answer import final_answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He has 2 + 3 = 5.\n#### 5", "5"),
        ("#### -1,234,567.50", "-1234567.5"),
        ("10 - 3 = -7, so -7.", "-7"),
        ("$1,000, please", "1000"),
        (".5 of it", "1/2"),
        ("3/4", "3/4"),
        ("-3/4", "-3/4"),
        ("\u22125", "-5"),
        ("so it is \u22125.", "-5"),
        ("12 000", "12000"),
        ("12\u00a0000", "12000"),
        ("12\u202f000 people", "12000"),
        ("they have 12 000 apples", "12000"),
        ("12{,}000", "12000"),
        ("12,\\!000", "12000"),
        ("1e3", "1000"),
        ("2.5E-1", "1/4"),
        ("\\frac{3}{2}", "3/2"),
        ("-\\frac{1}{2}", "-1/2"),
        ("\\dfrac{3}{2}", "3/2"),
        ("\\frac12", "1/2"),
        ("so we get $\\frac{3}{2}$.", "3/2"),
        ("The answer is: 72", "72"),
        ("the final answer is 72 apples.", "72"),
        ("The answer is 18 dollars per day.", "18"),
        ("The answer is 5km.", "5"),
        ("The answer is $x = 7$.", "7"),
        ("The answer is **72**.", "72"),
        ("The answer is (72)", "72"),
        ("so (it is 72)", "72"),
        ("The answer is $\\boxed{72}$.", "72"),
        ("Thus we have \\boxed{\\frac{1}{2}} of 10.", "1/2"),
        ("#### 110\nThe answer is: 110", "110"),
        ("#### 72\nQuestion: And now? #### 5", "72"),
        ("Perhaps the answer is 3. No: the answer is 4.\n2 of 2", "4"),
        ("The answer is 4. It is 2 of 2.", "4"),
        ("48,000 + 2,000 = 50,000", "50000"),
        ("50%", "50"),
        ("$-5", "-5"),
        ("4 - 1 - 7 = -4", "-4"),
        ("#### 72.", "72"),
        ("The answer is:\n5", "5"),
        ("The answer is: \n\n5", "5"),
        ("The answer is:\n\\boxed{5}", "5"),
        ("So the answer is:\n$$x = 5$$", "5"),
        ("So the answer is:\n\\[\n\\boxed{5}\n\\]", "5"),
        ("**The answer is:** 5", "5"),
        ("The answer is \\(5\\).", "5"),
        ("The answer is 4. So the answer is:", "4"),
        ("The final answer is: $5$ apples. I hope it is correct.", "5"),
        ("The answer is 40, so 40.", "40"),
        ("The answer is 5, since 2+3=5.", "5"),
        ("The answer is 18 because 9*2=18", "18"),
        ("#### 5 m", "5"),
        ("The answer is 5g", "5"),
        ("The answer is 5 km/h", "5"),
        ("The answer is 5\\text{ cm}^2.", "5"),
        ("it covers 5 cm^2", "5"),
        ("The answer is 10 sq. ft. in all", "10"),
        ("- 5", "-5"),
        ("The answer is: - $5", "-5"),
        ("The answer is 5 (five)", "5"),
        ("The answer is 50¢", "50"),
        ("\u20b950", "50"),
        ("2 1/2", "5/2"),
        ("#### -2 1/2 cups", "-5/2"),
        ("so $2\\frac{1}{2}$.", "5/2"),
        ("#### Step 1: add\n2+3=5\nThe answer is 5", "5"),
        ("#### Solution 1\nso \\boxed{5}", "5"),
        ("#### Answer: 5", "5"),
        ("##### 5", "5"),
        ("\\boxed{5}\nQuestion: \\boxed{7", "5"),
        ("\\boxed{4 + \\boxed{5}}", "5"),
    ],
)
def test_numbers(text: str, number: str) -> None:
    assert final_answer(text) == Fraction(number)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\\frac{3}{2}", "\\frac{1}{2}"),
        ("3\\sqrt{2}", "5\\sqrt{2}"),
        ("#### 3\\sqrt{2}", "#### 5\\sqrt{2}"),
        ("3 \\sqrt{2}", "3"),
        ("3/4", "1/4"),
        ("3/4", "4"),
        ("1,2,3", "123"),
        ("1, 2, 3", "3"),
        ("1, 2, 3", "9, 2, 3"),
        ("\u22125", "5"),
        ("12 000", "0"),
        ("1e3", "3"),
        ("10-3", "3"),
        ("x^2", "2"),
        ("5²", "52"),
        ("2\\pi", "2"),
        ("The answer is 2 pi", "2"),
        ("The answer is 5 million", "5"),
        ("(1, 2)", "(2, 1)"),
        ("1 1/2", "11/2"),
        ("3/4/2020", "2020"),
        ("The answer is 5 hours and 30 minutes", "30"),
        ("3,5", "35"),
        ("0.5", "5"),
        ("3/0", "0"),
        ("The answer is x = 5 or x = 3", "3"),
        ("The answer is St. Louis", "The answer is St. Paul"),
        ("yes", "no"),
        ("#### yes", "#### no"),
        ("The answer is:\nyes", "The answer is:\nno"),
        ("#### 5x", "5"),
        ("#### 5k", "5"),
        ("#### 5 M", "5"),
        ("#### 5 bn", "5"),
        ("#### 5 (million)", "5"),
        ("#### x^2", "2"),
        ("#### m^2", "2"),
        ("2 3/2", "7/2"),
        ("3 1/2/2020", "7/2"),
        ("12 000/3", "12"),
    ],
)
def test_what_differs(one: str, other: str) -> None:
    assert final_answer(one) != final_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3\\sqrt{2}", "so $3\\sqrt{2}$."),
        ("3 \\sqrt{2}", "The answer is $3\\sqrt{2}$."),
        ("\\left( 1, 2 \\right)", "(1,2)"),
        ("\\text{Tuesday}", "The answer is Tuesday."),
        ("#### No", "no"),
        ("1,2,3", "1, 2, 3"),
        ("0.75", "\\frac{3}{4}"),
        ("1,200.0", "1200"),
        ("90^\\circ", "90"),
    ],
)
def test_what_is_equal(one: str, other: str) -> None:
    assert final_answer(one) == final_answer(other)


def test_what_no_answer_can_be() -> None:
    assert final_answer("") == final_answer(" .\n") == ""
    assert final_answer("####") == "####"
    assert final_answer("\\boxed{3") == final_answer("\\BOXED{3")


@pytest.mark.parametrize(
    "text", ["9" * 5000, "1e999999999", f"{'7' * 5000}/3", "\\boxed{" * 3000, "#" * 5000, "answer is " * 999]
)
def test_what_a_model_in_a_loop_writes_is_text(text: str) -> None:
    assert isinstance(final_answer(text), str)
