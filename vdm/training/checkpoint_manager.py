"""Orbax's manager of a folder of checkpoints: the items of a step, and which steps are kept."""

import math
from pathlib import Path

ITEMS = ("state", "ema")
"""The items of a step that are trees of arrays."""


def open_manager(directory: Path, keep_latest: int, keep_best: int, metric: str, read_only: bool):
    """Return Orbax's manager of the folder, which keeps the newest and the best checkpoints.

    Args:
      directory: the folder.
      keep_latest: number of newest checkpoints to keep.
      keep_best: number of best checkpoints to keep besides.
      metric: name of the metric that ranks them, lower is better.
      read_only: change nothing on disk.
    """
    # Imported here: evaluation of plain arrays needs no checkpoint, and Orbax takes a second.
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policies

    best = policies.BestN(
        get_metric_fn=lambda metrics: -metrics.get(metric, math.inf),
        n=keep_best,
        keep_checkpoints_without_metrics=False,
    )
    options = ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        # A reader may not set aside a damaged metrics file, and needs none.
        lightweight_initialize=read_only,
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_latest), best]),
        best_fn=lambda metrics: metrics[metric],  # without it no metrics are written
        best_mode="min",
        enable_async_checkpointing=False,
    )
    names = (*ITEMS, "record")
    return ocp.CheckpointManager(directory, options=options, item_names=names)
