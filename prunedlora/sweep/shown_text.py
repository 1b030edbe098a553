"""Text of data on a terminal: what is trained marked, special tokens told apart, nothing that a terminal obeys."""

import unicodedata
from collections.abc import Sequence

from rich.text import Text

from prunedlora.sweep.trained_text import Piece, Run

TRAINED = ("⟦", "⟧")
SPECIAL = ("⟨", "⟩")
"""Around a special token, and around what is said of the text in its place."""
STYLES = {"trained": "underline green", "special": "cyan", "note": "italic magenta", "": ""}
LONGEST_TEXT = 3000
"""Characters of an example that are shown, over all of its runs."""
SHORTEST_RUN = 160
"""Characters that each run has at least: 80 at each of its borders."""
JOINERS = "\u200c\u200d"
"""Of no width, and part of words and signs."""
WHITE = {"\n": "↵\n", "\t": "⇥", " ": "·"}


def visible(text: str) -> str:
    """The same without anything that a terminal obeys, or that would be taken for a mark of ours: as \\x1b or \\u27e6.
    Line ends and tabs stay."""
    return "".join(c if _is_harmless(c) else _escaped(c) for c in text)


def _is_harmless(character: str) -> bool:
    if character in "\n\t" or character in JOINERS:
        return True
    if character in "".join((*TRAINED, *SPECIAL)):
        return False
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escaped(character: str) -> str:
    number = ord(character)
    if character == "\r":
        return "\\r"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def marked(runs: Sequence[Run], *, marks: bool) -> Text:
    """The runs one after the other: trained ones underlined and green, special tokens cyan; with `marks`, which no
    colour needs, ⟦trained⟧ and ⟨special⟩. White space at the borders of a run shows as ↵, ⇥ and ·. Long ones are
    shortened in the middle of runs, and what is left out is counted."""
    most = max(SHORTEST_RUN, LONGEST_TEXT // max(1, len(runs)))
    shown = Text()
    for run in runs:
        if marks and run.is_trained:
            shown.append(TRAINED[0])
        for text, kind in _parts(run, most):
            style = " ".join(STYLES[name] for name in ("trained" if run.is_trained else "", kind) if name)
            around = SPECIAL if kind == "note" or (marks and kind == "special") else ("", "")
            shown.append(f"{around[0]}{text}{around[1]}", style=style)
        if marks and run.is_trained:
            shown.append(TRAINED[1])
    return shown


def _parts(run: Run, most: int) -> list[tuple[str, str]]:
    """(what is shown, kind) of each piece of a run, or of its two ends with a note between; a kind is "", special or
    note."""
    length = len(run.text)
    if length <= most:
        return _written(run.pieces, left=True, right=True)
    head, tail = _within(run.pieces, 0, most // 2), _within(run.pieces, length - most // 2, length)
    hidden = length - sum(len(piece.text) for piece in (*head, *tail))
    note = (f"… {hidden:,} characters …", "note")
    return [*_written(head, left=True, right=False), note, *_written(tail, left=False, right=True)]


def _within(pieces: Sequence[Piece], begin: int, end: int) -> list[Piece]:
    """What of the pieces lies there, in characters; a special token that does in part is there as a whole."""
    found, at = list[Piece](), 0
    for piece in pieces:
        first, last = max(begin - at, 0), min(end - at, len(piece.text))
        if first < last:
            found.append(piece if piece.is_special else Piece(piece.text[first:last], is_special=False))
        at += len(piece.text)
    return found


def _written(pieces: Sequence[Piece], *, left: bool, right: bool) -> list[tuple[str, str]]:
    """Each made harmless; white space at the left, and at the right, end of them all written out."""
    written = []
    for number, piece in enumerate(pieces):
        if piece.is_special:
            written.append((visible(piece.text), "special"))
            continue
        text, begin, end = piece.text, 0, len(piece.text)
        if left and number == 0:
            begin = len(text) - len(text.lstrip(" \n\t"))
        if right and number == len(pieces) - 1:
            end = max(begin, len(text.rstrip(" \n\t")))
        written.append((_white(text[:begin]) + visible(text[begin:end]) + _white(text[end:]), ""))
    return written


def _white(text: str) -> str:
    return "".join(WHITE[character] for character in text)
