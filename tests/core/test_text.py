"""Names of users are printed as text, whatever characters they hold."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.core.files import write_text
from segadapt.core.text import TextConsole, one_printable_line, printable
from segadapt.engine import record

ODD = st.text(st.one_of(st.characters(), st.sampled_from("[]/\\:{}%\x1b\x9b\r\n\t\u202e\u2066\u2028\ud800\U0001f600")))


@settings(max_examples=50, deadline=None)
@given(ODD)
def test_no_text_moves_the_cursor_or_turns_the_direction(text: str) -> None:
    shown = one_printable_line(text)
    assert len(shown.splitlines()) <= 1
    kinds = {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"}
    assert kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
    shown.encode()


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    file = io.StringIO()
    console = TextConsole()
    console.file = file
    console.print(text, soft_wrap=True)
    assert file.getvalue() == f"{text}\n"


def test_markup_and_codes_of_emoji_are_text() -> None:
    console = TextConsole()
    console.file = io.StringIO()
    console.print("[red]a[/] [/b] :smile: [link=x]y", "\x1b[2Jz\nnext", soft_wrap=True)
    assert console.file.getvalue() == "[red]a[/] [/b] :smile: [link=x]y \\x1b[2Jz\nnext\n"


def test_progress_takes_titles_and_notes_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    console = TextConsole()
    console.file = io.StringIO()
    monkeypatch.setattr(record, "console", console)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with record.Steps("[/train] \x1b[31m", 2) as steps:
        steps.advance("[/loss]")
    assert "\x1b[31m" not in console.file.getvalue()


def test_files_take_names_that_are_no_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_text(file, "caf\udce9 \xe9")
    assert file.read_text(encoding="utf-8") == "caf\\udce9 \xe9"
