"""Report on the learning curves of runs: one figure and one table."""

from collections.abc import Mapping
from pathlib import Path

from experiments.reports import page
from experiments.reports.page import Figure, plt
from experiments.reports.tables import Table, to_csv
from vdm.plots import plot_learning
from vdm.runs.folder import write_bytes
from vdm.runs.history import training_curves, validation_curves


def write(out: Path, runs: Mapping[str, Path]) -> Path:
    """Write learning.png, learning.pdf and learning.csv into `out`.

    Args:
      out: the folder.
      runs: {name in the figure: work folder}; each has logged at least one training loss.

    Returns:
      The path of learning.png.
    """
    for kind, content in page.render({"learning": lambda: _draw(runs)})["learning"].items():
        write_bytes(out / f"learning.{kind}", content)
    write_bytes(out / "learning.csv", to_csv(_table(runs)))
    return out / "learning.png"


def _table(runs: Mapping[str, Path]) -> Table:
    """Return a row per run, logged step and split, bits/dim."""
    # In long form, one number per row: validations are logged at other steps than losses.
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
    """Draw training losses (lines) and validations (points) against images seen."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    training = {name: training_curves(workdir) for name, workdir in runs.items()}
    validation = {name: validation_curves(workdir) for name, workdir in runs.items()}
    plot_learning(axes, training, validation)
    axes.set(xlabel="images seen", ylabel="bits/dim")
    axes.legend()
    return figure
