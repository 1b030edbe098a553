"""Marks for what is trained, with colour and without; nothing in data is obeyed, or taken for a mark."""

import io

import pytest
from rich.console import Console

from prunedlora.sweep.shown_text import LONGEST_TEXT, SHORTEST_RUN, marked, visible
from prunedlora.sweep.trained_text import Piece, Run


def run(*pieces: str, trained: bool = False) -> Run:
    """Pieces in angle brackets are special tokens."""
    return Run(tuple(Piece(text, text.startswith("<")) for text in pieces), trained)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\x00\x07\x9b\x7f", "a\\x00\\x07\\x9b\\x7f"),
        ("one\r\ntwo\tthree", "one\\r\ntwo\tthree"),
        ("a\u202eb\u2066\ufeff\u2028", "a\\u202eb\\u2066\\ufeff\\u2028"),
        ("⟦x⟧ ⟨y⟩", "\\u27e6x\\u27e7 \\u27e8y\\u27e9"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
        ("日本 👩\u200d🚀 é", "日本 👩\u200d🚀 é"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_marks_without_colour() -> None:
    runs = [run("<s>", "Q: 1+1?\n"), run(" 2", "<end>", trained=True), run("\n")]
    assert marked(runs, marks=True).plain == "⟨<s>⟩Q: 1+1?↵\n⟦·2⟨<end>⟩⟧↵\n"


def test_colours_without_marks() -> None:
    text = marked([run("Q [bold]x[/bold] :tada:"), run("2", "<end>", trained=True)], marks=False)
    assert text.plain == "Q [bold]x[/bold] :tada:2<end>"
    assert [(text.plain[s.start : s.end], s.style) for s in text.spans] == [
        ("2", "underline green"), ("<end>", "underline green cyan")
    ]  # fmt: skip
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor").print(marked([run("a\x1b]0;x\x07b")], marks=False))
    assert out.getvalue() == "a\\x1b]0;x\\x07b\n"


def test_white_space_is_written_out_at_borders_alone() -> None:
    runs = [run(" a\n\n b \t"), run("\n \n", trained=True), run("c \n d")]
    assert marked(runs, marks=True).plain == "·a\n\n b·⇥⟦↵\n·↵\n⟧c \n d"
    assert marked([run("a ", "<s>", " b")], marks=True).plain == "a ⟨<s>⟩ b"


def test_long_runs_lose_their_middle_and_keep_their_borders() -> None:
    prompt, answer = "p" * 9000 + "BEFORE", "AFTER" + "a" * 9000 + "END"
    text = marked([run(prompt), run(answer, "<end>", trained=True)], marks=True).plain
    most = LONGEST_TEXT // 2
    assert f"⟨… {9006 - most:,} characters …⟩" in text
    assert "BEFORE⟦AFTER" in text
    assert text.endswith("END⟨<end>⟩⟧")
    assert len(text) < LONGEST_TEXT + 100
    turns = [run("x" * 400, trained=bool(i % 2)) for i in range(100)]
    shown = marked(turns, marks=True).plain
    assert shown.count(f"{'x' * (SHORTEST_RUN // 2)}⟨… 240 characters …⟩{'x' * (SHORTEST_RUN // 2)}") == 100
    assert "characters" not in marked([run("x" * LONGEST_TEXT)], marks=True).plain


def test_special_tokens_in_the_middle_are_left_out_with_it() -> None:
    pieces = ["a" * 1000, "<one>", "b" * 3000, "<two>", "c" * 1000]
    text = marked([run(*pieces)], marks=True).plain
    assert "⟨<one>⟩" in text
    assert "⟨<two>⟩" in text
    hidden = sum(map(len, pieces)) - LONGEST_TEXT
    assert f"⟨… {hidden:,} characters …⟩" in text
    assert text.count("b") == 3000 - hidden
