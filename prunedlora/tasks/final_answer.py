r"""The final answer that a solution ends in: a number where it is one, normalised text where it is not.

Where it stands: after the first "####" before a digit (as GSM8K writes it and its own grader reads it; other lines with
this mark may be headings), or else after the last "answer is", on its line or the next (MetaMathQA, Minerva), or else
in the last closed \boxed{} (MATH), or else after the first "####", or else it is the whole text where that has no
words, or else the last word with a digit. What is stated ends with its sentence, or where a reason begins ("5, so …").

A number is compared by its value, so 1,200.0, 12e2, \frac{2400}{2} are equal, and 2 1/2 and 2.5. It may have a currency
sign and a unit: words of two letters or more that are no scale ("5 million"), symbols of one letter (UNITS), and powers
and quotients of them (5 g, 5 km/h, 5 cm^2). Anything else (3\sqrt{2}, 1,2,3, x+1, 5x, Tuesday) is compared as text,
without case, white space and what only changes how LaTeX looks.

Sources: https://github.com/openai/grade-school-math, https://github.com/meta-math/MetaMath (eval_gsm8k.py),
https://github.com/hendrycks/math.
"""

import re
from fractions import Fraction

MOST_CHARACTERS = 300
"""Of a number. Python refuses to read one of thousands of digits, and a model in a loop writes them."""
SCALES = frozenset(
    ["pi", "sqrt", "hundred", "thousand", "million", "billion", "trillion", "dozen", "percent", "bn", "mn"]
)
"""Words after a number that are no unit: with them it is another number."""
UNITS = "mgshlLCFNJWV"
"""Units of one letter; other letters are variables (5x), or scales (5k, 5M)."""

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
_MARK = re.compile(r"(?<!#)####(?!#)[ \t]*(\S[^\n]*)")
_ANSWER_IS = re.compile(r"\banswer is[:\s]*+(?:(?:\\[\[(]|\$\$?|\*\*)\s*+)*+(?=(\S[^\n]*))", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]\s")
_REASON = re.compile(r",\s+(?:so|since|because|as|which)\b|\s(?:since|because)\b")
_HEADING = re.compile(r"\s*#+\s+(?=\S)")
_SEVERAL = re.compile(r",(?![0-9]{3})|;|\b(?:and|or)\b")
_LATEX_LOOKS = re.compile(
    r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;: ()\[\]]|\\?[$€£¥₹¢]|\\?%|\^\{?\\circ\}?|°"
)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")
_PLAIN = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_QUOTIENT = re.compile(rf"([+-]?{_PLAIN})(?:/([+-]?{_PLAIN}))?")
_FRACTION = re.compile(rf"([+-]?)\\frac(?:\{{([+-]?{_PLAIN})\}}\{{([+-]?{_PLAIN})\}}|([0-9])([0-9]))")
_MIXED = re.compile(
    r"(?<![\w.,/}\\])([0-9]+)(?: ([1-9][0-9]?)/([1-9][0-9]{0,2})| ?\\[dt]?frac\{([1-9][0-9]?)\}\{([1-9][0-9]{0,2})\})"
    r"(?![\w/{]|[.,][0-9])"
)
_UNIT_SYMBOL = rf"(?:[A-Za-z]{{2,}}|[{UNITS}])(?:\^?\{{?[23]\}}?|[²³])?"
_UNIT = re.compile(rf"({_UNIT_SYMBOL})(?:/({_UNIT_SYMBOL}))*")
_BEFORE_UNIT = re.compile(rf"(?<=[0-9])(?=[A-Za-z]{{2}}|[{UNITS}](?![A-Za-z0-9]))")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_DIGIT = re.compile(r"[0-9]")
_BRACE = re.compile(r"(?:\\boxed)?\{|\}")


def final_answer(text: str) -> Fraction | str:
    """The value of the final answer, or its normalised text where it is no number; "" where nothing is left of it."""
    text = _MIXED.sub(_improper, text.translate(_TABLE))
    stated = _stated(text)
    if stated is None and _WORD.search(text) is None:
        stated = text
    if stated is not None:
        return _value(stated)
    # Prose: thousands apart stay together.
    joined = re.sub(r"(?<![0-9.,/])[0-9]{1,3}(?: [0-9]{3})+(?![0-9/])", lambda m: m[0].replace(" ", ","), text)
    words = [word for word in joined.split() if _DIGIT.search(word) and not _is_unit(word.rstrip(".,;:!?)"))]
    return _value(words[-1] if words else text)


def _stated(text: str) -> str | None:
    """What the text says is its answer; None where it says nothing of the kind."""
    marks = [mark[1] for mark in _MARK.finditer(text)]
    numbers = [line for line in marks if _begins_with_a_number(line)]
    for line in (*numbers[:1], *(found[1] for found in [*_ANSWER_IS.finditer(text)][-1:])):
        sentence = _REASON.split(_sentence(line))[0]
        return _boxed(sentence) or sentence
    boxed = _boxed(text)
    return _sentence(marks[0]) if boxed is None and marks else boxed


def _begins_with_a_number(line: str) -> bool:
    digit, word = _DIGIT.search(line), _WORD.search(line)
    return digit is not None and (word is None or digit.start() < word.start())


def _sentence(line: str) -> str:
    """Up to the first end of a sentence behind a digit or what closes a formula: "St. Louis" is one piece."""
    digit = _DIGIT.search(line)
    for end in _SENTENCE_END.finditer(line):
        before = line[: end.start()]
        if before.endswith(("}", "$", "%", ")", "*")) or (digit is not None and digit.start() < end.start()):
            return before
    return line


def _improper(mixed: re.Match[str]) -> str:
    """2 1/2 as 5/2, so that it is one word; as it is where the fraction is none that a mixed number has."""
    above, below = int(mixed[2] or mixed[4]), int(mixed[3] or mixed[5])
    if above >= below or len(mixed[1]) > MOST_CHARACTERS:
        return mixed[0]
    return f"{int(mixed[1]) * below + above}/{below}"


def _boxed(text: str) -> str | None:
    r"""The content of the last \boxed{} that is closed, None where there is none."""
    opened: list[tuple[int, bool]] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append((brace.end(), len(brace[0]) > 1))
        elif opened:
            start, box = opened.pop()
            if box and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[slice(*last)]


def _value(stated: str) -> Fraction | str:
    tidy = _tidy(stated)
    number = _number(tidy)
    if number is not None:
        return number
    # One number with its unit: "72 apples", "18 dollars per day", "5 (five) km/h".
    words = [word.strip(".,;:!?()") for word in _BEFORE_UNIT.sub(" ", tidy).split()]
    others = [word for word in words if not _is_unit(word)]
    if len(others) == 1:
        number = _number(others[0])
    return _normal(tidy) if number is None else number


def _is_unit(word: str) -> bool:
    return _UNIT.fullmatch(word) is not None and word.lower() not in SCALES


def _tidy(text: str) -> str:
    """Without what says nothing about the value: currency, percent and degree signs, emphasis, the end of a sentence;
    of an equation the right side."""
    text = _LATEX_TEXT.sub(r"\1", text.replace("{,}", ","))
    text = (
        _LATEX_LOOKS.sub("", _HEADING.sub("", text, count=1) if _HEADING.match(text) else text)
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
    )
    left, _, right = text.rpartition("=")
    text = text if _SEVERAL.search(left) else right
    text = text.strip(" \t\n*`\"'_").rstrip(".,;:!? \t\n*`\"'_")
    if ")" not in text or "(" not in text or re.fullmatch(r"\([^(),]*\)", text):  # half of a pair, or one around it all
        text = text.strip("()")
    return re.sub(r"^([+-])\s+(?=[0-9.\\])", r"\1", text.strip())


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
