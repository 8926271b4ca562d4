"""Orbax's manager of a folder of checkpoints: the items of a step, and which steps are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ITEMS = ("state", "ema")
"""The items of a step that are trees of arrays."""


class KeepBest:
    """A preservation policy of Orbax: the steps whose metric is lowest.

    Orbax's own policy ranks steps by a metrics file that nothing protects; this one asks for the
    metric in the step's sealed record.

    Args:
      num: number of steps to keep; of those without a metric none is.
      metric: the metric of a step, lower is better, or None.
    """

    def __init__(self, num: int, metric: Callable[[int], float | None]):
        self._num, self._metric = num, metric

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Return which of the checkpoints, each with its `step`, are among the best."""
        del context
        scores = [(self._metric(info.step), info.step) for info in checkpoints]
        ranked = sorted((metric, step) for metric, step in scores if metric is not None)
        best = {step for _, step in ranked[: self._num]}
        return [info.step in best for info in checkpoints]


def open_manager(
    directory: Path,
    keep_latest: int,
    keep_best: int,
    metric: Callable[[int], float | None],
    read_only: bool,
):
    """Return Orbax's manager of the folder, which keeps the newest and the best checkpoints.

    Args:
      directory: the folder.
      keep_latest: number of newest checkpoints to keep.
      keep_best: number of best checkpoints to keep besides.
      metric: the metric of a step that ranks it, lower is better, or None.
      read_only: change nothing on disk.
    """
    # Imported here: evaluation of plain arrays needs no checkpoint, and Orbax takes a second.
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policies

    class Manager(ocp.CheckpointManager):
        """Orbax's manager without its metrics files: a damaged one would close the whole folder."""

        def metrics(self, step: int) -> None:
            del step

    latest, best = policies.LatestN(keep_latest), KeepBest(keep_best, metric)
    options = ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        lightweight_initialize=read_only,
        preservation_policy=policies.AnyPreservationPolicy([latest, best]),
        enable_async_checkpointing=False,
    )
    return Manager(directory, options=options, item_names=(*ITEMS, "record"))
