"""The table of `train --list`: every configuration and variant with its line, cost and bits/dim."""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

from experiments.cli.config_files import list_configs, load_module
from vdm.runs.variants import Variant, path_of

WIDTH = 100
"""Characters of a line."""


def list_variants() -> Iterator[tuple[str, Variant | None, str]]:
    """Yield (value of --config, record, line) of every configuration and variant in configs/.

    A file without VARIANTS, such as configs/base.py or a user's own, has no record; its line is the
    first of its docstring.
    """
    for file in list_configs():
        # Read before it is run: a file without variants is shown even where it raises.
        if "\nVARIANTS" not in Path(file).read_text(encoding="utf-8"):
            yield file, None, _first_line(file)
            continue
        for name, variant in load_module(file).VARIANTS.items():
            yield path_of(file, name), variant, variant.line


def format_configs() -> str:
    """Return the listing as text, a paragraph for each configuration."""
    paragraphs = []
    for path, variant, line in list_variants():
        facts = [line]
        if variant is not None:
            facts += [f"Cost: {variant.cost}.", f"Expected: {variant.expected}."]
        wrapped = [
            textwrap.fill(fact, WIDTH, initial_indent="  ", subsequent_indent="    ")
            for fact in facts
        ]
        paragraphs.append("\n".join([path, *wrapped]))
    return "\n".join(
        [*paragraphs, "", "python -m experiments.train --config=PATH trains one of them."]
    )


def _first_line(file: str) -> str:
    """Return the first line of a file's docstring, "" where it has none or is no Python."""
    try:
        doc = ast.get_docstring(ast.parse(Path(file).read_text(encoding="utf-8")))
    except SyntaxError:
        return ""
    return (doc or "").partition("\n")[0]
