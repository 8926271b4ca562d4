"""The table of docs/reliability.md: every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_is_named_exists():
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/reliability.md").read_text()
    )
    assert len(named) > 30
    missing = [f"{path}::{test}" for path, test in named if test not in names_in(path)]
    assert missing == []


def names_in(path):
    """The names of a file's tests, and "" for the file itself."""
    if not (ROOT / path).is_file():
        return set()
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} | {""}


def test_every_row_is_there():
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs/reliability.md").read_text(), re.M)
    codes = ["0", "1", "2", "3", "4", "5", "6", "75", "130"]
    assert rows == codes + [str(n) for n in (*range(1, 33), *range(3, 22))]
