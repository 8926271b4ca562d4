"""How runs learned: a picture and a table."""

from collections.abc import Mapping
from pathlib import Path

from experiments.reports import page
from experiments.reports.page import Figure, plt
from experiments.reports.tables import Table, to_csv
from vdm.plots import plot_learning
from vdm.runs.folder import write_bytes
from vdm.runs.history import training_curves, validation_curves


def write(out: Path, runs: Mapping[str, Path]) -> Path:
    """learning.png, learning.pdf and learning.csv; the path of the first."""
    for kind, content in page.render({"learning": lambda: _draw(runs)})["learning"].items():
        write_bytes(out / f"learning.{kind}", content)
    write_bytes(out / "learning.csv", to_csv(_table(runs)))
    return out / "learning.png"


def _table(runs: Mapping[str, Path]) -> Table:
    """A row per run, step and kind of number, for CSV."""
    rows = []
    for name, workdir in runs.items():
        for split, curves in (
            ("train", training_curves(workdir)),
            ("validation", validation_curves(workdir)),
        ):
            rows += [
                (name, split, int(step), float(bits))
                for step, bits in zip(curves["step"], curves[split], strict=True)
            ]
    return Table(("run", "split", "step", "bits_per_dim"), rows)


def _draw(runs: Mapping[str, Path]) -> Figure:
    """Training loss (lines) and validation (points) against images seen."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    training = {name: training_curves(workdir) for name, workdir in runs.items()}
    validation = {name: validation_curves(workdir) for name, workdir in runs.items()}
    plot_learning(axes, training, validation)
    axes.set(xlabel="images seen", ylabel="bits/dim")
    axes.legend()
    return figure
