"""Tables that a program can split where no terminal is, and that lose nothing where one is."""

import re

import pytest

from vdm.runtime.tables import show_table

COLUMNS = ("term", "bits/dim", "95 % (images)")
ROWS = [
    ("total", "1.7827", "[1.7412, 1.8242]"),
    ("a [bold]name[/bold] that is :smile: " + "long" * 40, "-12.5", "not estimated"),
]


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_line_a_row_without_a_terminal(narrow, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # set by services that run tests
    text = show_table(COLUMNS, ROWS)
    lines = text.split("\n")
    assert text.isascii() and "\x1b" not in text
    assert [tuple(re.split(" {2,}", line)) for line in lines] == [COLUMNS, *ROWS]
    assert len({len(line) for line in lines}) == 1  # numbers end at one column


def test_nothing_is_cut_on_a_narrow_terminal(narrow):
    text = re.sub("\x1b\\[[0-9;]*m", "", show_table(COLUMNS, ROWS, terminal=True))
    assert max(map(len, text.split("\n"))) <= 40
    found = [character for character in text if character not in " \n─"]
    expected = [c for row in (COLUMNS, *ROWS) for cell in row for c in cell if c != " "]
    assert sorted(found) == sorted(expected)
