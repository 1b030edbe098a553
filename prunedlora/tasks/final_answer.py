r"""The final answer that a solution ends in: a number where it is one, normalised text where it is not.

Where it stands: after the first "####" (as GSM8K writes it and its own grader reads it), or else after the last "answer
is" (MetaMathQA), or else in the last \boxed{} (MATH), or else it is the whole text where that has no words, or else the
last word with a digit. A number is compared by its value, so 1,200.0, 12e2 and \frac{2400}{2} are equal; anything else
(3\sqrt{2}, 1,2,3, x+1, Tuesday) as text without case, white space and what only changes how LaTeX looks.

Sources: https://github.com/openai/grade-school-math, https://github.com/meta-math/MetaMath (eval_gsm8k.py),
https://github.com/hendrycks/math. None of them tells all the cases apart that tests/tasks/test_final_answer.py lists.
"""

import re
from fractions import Fraction

MOST_CHARACTERS = 300
"""Of a number. Python refuses to read one of thousands of digits, and a model in a loop writes them."""
SCALES = frozenset(["pi", "sqrt", "hundred", "thousand", "million", "billion", "trillion", "dozen", "percent"])
"""Words after a number that are no unit: with them it is another number."""

_LOOKS = {
    "\u2212": "-",  # the mathematical minus sign, and its wide and small forms
    "\uff0d": "-",
    "\ufe63": "-",
    "\u2044": "/",
    "\u00a0": " ",  # spaces that do not break, as they stand between thousands
    "\u202f": " ",
    "\u2009": " ",
}
_TABLE = str.maketrans(_LOOKS)
_MARK = re.compile(r"####[ \t]*(\S[^\n]*)")
_ANSWER_IS = re.compile(r"\banswer is:?[ \t]*(?=(\S[^\n]*))", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[0-9}$%)*])[.!?]\s")
_SEVERAL = re.compile(r",(?![0-9]{3})|;|\b(?:and|or)\b")
_LATEX_LOOKS = re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;: ]|\\?[$€£]|\\?%|\^\{?\\circ\}?|°")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")
_PLAIN = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_QUOTIENT = re.compile(rf"([+-]?{_PLAIN})(?:/([+-]?{_PLAIN}))?")
_FRACTION = re.compile(rf"([+-]?)\\frac(?:\{{([+-]?{_PLAIN})\}}\{{([+-]?{_PLAIN})\}}|([0-9])([0-9]))")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_DIGIT = re.compile(r"[0-9]")


def final_answer(text: str) -> Fraction | str:
    """The value of the final answer, or its normalised text where it is no number; "" where nothing is left of it."""
    text = text.translate(_TABLE)
    stated = _stated(text)
    if stated is None and _WORD.search(text) is None:
        stated = text
    if stated is not None:
        return _value(stated)
    # Prose: thousands apart stay together.
    joined = re.sub(r"(?<![0-9.,/])[0-9]{1,3}(?: [0-9]{3})+(?![0-9/])", lambda m: m[0].replace(" ", ","), text)
    words = [word for word in joined.split() if _DIGIT.search(word)]
    return _value(words[-1] if words else text)


def _stated(text: str) -> str | None:
    """What the text says is its answer; None where it says nothing of the kind."""
    marked = _MARK.search(text) or next(reversed(list(_ANSWER_IS.finditer(text))), None)
    if marked is not None:
        sentence = _SENTENCE_END.split(marked[1])[0]
        return _boxed(sentence) or sentence
    return _boxed(text)


def _boxed(text: str) -> str | None:
    r"""The content of the last \boxed{}, None where there is none that is closed."""
    _, box, rest = text.rpartition("\\boxed{")
    depth = 1
    for index, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if box and depth == 0:
            return rest[:index]
    return None


def _value(stated: str) -> Fraction | str:
    tidy = _tidy(stated)
    number = _number(tidy)
    if number is not None:
        return number
    # One number with its unit: "72 apples", "18 dollars per day".
    words = re.sub(r"(?<=[0-9])(?=[A-Za-z]{2})", " ", tidy).split()
    numbers = [word for word in words if _DIGIT.search(word)]
    units = [word.strip(".,;:!?") for word in words if not _DIGIT.search(word)]
    if len(numbers) == 1 and all(unit.isalpha() and len(unit) > 1 and unit.lower() not in SCALES for unit in units):
        number = _number(numbers[0].strip(".,;:!?"))
    return _normal(tidy) if number is None else number


def _tidy(text: str) -> str:
    """Without what says nothing about the value: currency, percent and degree signs, emphasis, the end of a sentence;
    of an equation the right side."""
    text = _LATEX_TEXT.sub(r"\1", text.replace("{,}", ","))
    text = _LATEX_LOOKS.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    left, _, right = text.rpartition("=")
    text = text if _SEVERAL.search(left) else right
    text = text.strip(" \t\n*`\"'_").rstrip(".,;:!? \t\n*`\"'_")
    if ")" not in text or "(" not in text or re.fullmatch(r"\([^(),]*\)", text):  # half of a pair, or one around it all
        text = text.strip("()")
    return text.strip()


def _number(text: str) -> Fraction | None:
    if len(text) > MOST_CHARACTERS:
        return None
    quotient, fraction = _QUOTIENT.fullmatch(text), _FRACTION.fullmatch(text)
    if quotient is not None:
        above, below, sign = quotient[1], quotient[2] or "1", ""
    elif fraction is not None:
        above, below, sign = fraction[2] or fraction[4], fraction[3] or fraction[5], fraction[1]
    else:
        return None
    divisor = _plain(below)
    if divisor == 0:
        return None
    return _plain(above) / divisor * (-1 if sign == "-" else 1)


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))


def _normal(text: str) -> str:
    """Without case and white space, but for that between two digits."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text).casefold()
