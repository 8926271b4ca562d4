"""Tables as CSV, HTML and LaTeX, and pages that hide nothing."""

import csv
import io

import pytest

from experiments.reports import page
from experiments.reports.tables import Table, escape_latex, show, to_csv, to_html, to_latex

TABLE = Table(("run_name", "x"), [("a & b_c <d>", 1.0 / 3.0), ("[e", None), ("f", (0.1, -2e-7))])


def test_csv_keeps_full_precision():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE).decode())))
    assert rows[0] == ["run_name", "x"] and float(rows[1][1]) == 1.0 / 3.0 and rows[2][1] == ""


def test_html_is_escaped():
    text = to_html(TABLE)
    assert "<td>a &amp; b_c &lt;d&gt;</td><td>0.3333</td>" in text
    assert "<th>run name</th>" in text and "[0.1000, -2e-07]" in text


def test_latex_is_escaped_and_balanced():
    text = to_latex(TABLE, "one fact\nanother").decode()
    lines = text.splitlines()
    assert lines[:2] == ["% one fact", "% another"] and lines[3] == r"\toprule"
    assert r"{a \& b\_c $<$d$>$} & {0.3333} \\" in lines
    # A row that began with "[" would be the optional argument of the line break before it.
    assert all(not line.startswith("[") for line in lines)
    assert all(line.count(" & ") == 1 for line in lines if line.endswith(r"\\"))
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100 %", r"100 \%"),
        ("a\\b^c~d", r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}d"),
        ("x − y ± γ", r"x $-$ y $\pm$ $\gamma$"),
    ],
)
def test_what_latex_prints(text, expected):
    assert escape_latex(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(None, ""), (0.0, "0"), (1.5e13, "1.5e+13"), (1e-9, "1e-09"), (3, "3")]
)
def test_numbers(value, expected):
    assert show(value) == expected


def test_a_broken_page_is_noticed(in_browser, tmp_path):
    """The check itself: a missing image, a script's error and a table that is too wide."""
    bad = {
        "image": "<figure><img alt='x' src='none.png'></figure>",
        "error": "<img alt='x' src='data:,'><script>undefined_function()</script>",
        "wide": f"<p style='width: 3000px'>{'x' * 30}</p>",
    }
    for content in bad.values():
        path = tmp_path / "bad.html"
        path.write_bytes(page.document("Bad", [content]))
        with pytest.raises(AssertionError):
            in_browser(path)
