"""A table as text for a terminal or a file; the library and the launchers both print tables."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ENDLESS = 1_000_000
"""Width in columns for a file, whose lines are never folded."""


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool | None = None
) -> str:
    """Format cells below their columns' names, the first column to the left, others to the right.

    On a terminal there is a rule below bold names, and long cells are folded to its width.
    Elsewhere the table is plain ASCII of fixed width, one line a row, however long, so that
    programs can split it.

    Args:
      columns: names of the columns; a line break in one gives all a second line.
      rows: as many cells each, already formatted.
      terminal: whether a terminal shows the table; None asks standard output.

    Returns:
      The lines, without a line break after the last.
    """
    terminal = sys.stdout.isatty() if terminal is None else terminal
    table = Table(box=box.SIMPLE_HEAD if terminal else None, show_edge=False, pad_edge=False)
    table.padding = (0, 1)
    for number, name in enumerate(columns):
        # As Text, here and below: "[0.1, 0.2]" is no markup.
        table.add_column(
            Text(name),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=not terminal,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    width = None if terminal else _ENDLESS
    console = Console(force_terminal=terminal, force_jupyter=False, width=width)
    with console.capture() as shown:
        console.print(table)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())
