"""Save, verify and restore: parameters, optimizer state, and all that says what they are.

One checkpoint is one Orbax step, whose items commit together:

    <directory>/<step>/state    step, parameters, optimizer state
                       ema      averaged parameters; evaluation reads only these
                       record   configuration, data identity, progress, SHA-256 per array (JSON)
                       metrics  what "best" is judged by

Orbax restores an array file with a flipped bit without a word, so every array is hashed when it is
saved, and again when it is restored. A damaged step is named, passed over for the one before, and
set aside as damaged-<step>.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import DiskError
from vdm.runtime.hashes import (
    check_hashes,
    check_same_arrays,
    describe,
    fingerprints,
    sealed,
    unsealed,
)
from vdm.runtime.processes import ElsewhereError, first_only, is_first, together
from vdm.training.checkpoint_folder import METRICS, RECORD, Folder, line

Tree = Any
ITEMS = ("state", "ema")


class Checkpoints:
    """The checkpoints in one folder.

    Args:
      directory: where they live; made when missing unless `read_only`.
      keep_latest: the newest ones kept.
      keep_best: kept besides, the best by `best_metric` among those saved with it.
      best_metric: name of a metric, lower is better; measured on the validation split.
      read_only: change nothing on disk.
      warn: gets a line when something damaged is passed over.

    Raises:
      DiskError: the folder cannot be opened.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        keep_latest: int = 3,
        keep_best: int = 1,
        best_metric: str = "validation_bits_per_dim",
        read_only: bool = False,
        warn: Callable[[str], None] = print,
    ):
        self.directory = Path(directory).resolve()
        self.best_metric = best_metric
        self._read_only = read_only
        # Of several processes the first alone changes what is there.
        self._folder = Folder(self.directory, read_only or not is_first(), warn)
        try:
            first_only(self._folder.pass_over_metrics)
            self._manager = _open_manager(
                self.directory, keep_latest, keep_best, best_metric, read_only
            )
        except OSError as error:
            raise DiskError(
                f"checkpoints={directory}: cannot be opened ({line(error)}); choose another workdir"
            ) from error

    def steps(self) -> list[int]:
        """All committed steps, ascending; without those set aside."""
        return self._folder.steps()

    def latest_step(self) -> int | None:
        """The newest committed step, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the lowest `best_metric`, or None where none was saved with it."""
        metrics = {step: self.metric(step) for step in self.steps()}
        scored = [(metric, step) for step, metric in metrics.items() if metric is not None]
        return min(scored, default=(None, None))[1]

    def metric(self, step: int) -> float | None:
        """`best_metric` of step `step`, or None."""
        return self._folder.read_metric(step, self.best_metric)

    def save(
        self,
        step: int,
        state: Tree,
        ema: Tree,
        record: Mapping,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Commits step `step`, then removes what interrupted saves left behind.

        Args:
          step: updates made.
          state: everything but the averaged parameters.
          ema: the averaged parameters.
          record: what else belongs to it, JSON-able: configuration, data identity, progress.
          metrics: may hold `best_metric`.

        Raises:
          NonFiniteError: an array holds nan or inf; nothing is written.
          DiskError: the save failed; older steps are intact.
        """
        import orbax.checkpoint as ocp

        trees = {"state": state, "ema": ema}
        hashes = {item: fingerprints(tree, refuse_nonfinite=True) for item, tree in trees.items()}
        items = {
            **{item: ocp.args.StandardSave(tree) for item, tree in trees.items()},
            "record": ocp.args.JsonSave(sealed({**record, "arrays": hashes})),
        }
        args, scored = ocp.args.Composite(**items), self._scored(metrics)
        try:
            together(lambda: self._commit(step, args, scored))
            self._folder.remove_partial()
        except (OSError, ValueError, RuntimeError, ElsewhereError) as error:
            raise DiskError(
                f"checkpoints={self.directory}: saving step {step} failed ({line(error)}); "
                "older checkpoints are intact; free some space and resume"
            ) from error

    def _commit(self, step: int, args: Any, metrics: dict | None) -> None:
        self._manager.save(step, args=args, metrics=metrics, force=True)
        # Only waiting raises what went wrong, such as a full disk.
        self._manager.wait_until_finished()

    def amend(
        self, step: int, changes: Mapping, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Adds to committed step `step` what was found out after it was saved.

        The metrics come first: a kill in between leaves a record that asks for them once more.

        Args:
          step: a committed step.
          changes: entries of its record, new or replaced.
          metrics: as in `save`.

        Raises:
          DiskError: it cannot be written; the step is as it was.
        """
        record = sealed({**self._record(step), **changes})
        scored = self._scored(metrics)

        def write():
            if scored:
                self._folder.write_json(step, METRICS, scored)
            self._folder.write_json(step, RECORD, record)

        try:
            first_only(write)
            self._reload()
        except OSError as error:
            raise DiskError(
                f"checkpoints={self.directory}: step {step} cannot be amended ({line(error)}); "
                "free some space and resume"
            ) from error

    def restore(
        self, abstract_state: Tree, abstract_ema: Tree, step: int | None = None
    ) -> tuple[int, Tree, Tree]:
        """(step, state, ema) of step `step`, or of the newest one that is undamaged.

        The abstract trees give shapes, dtypes and shardings, see `vdm.runtime.devices.abstract_like`.

        Raises:
          CheckpointError: no such step, none undamaged, or arrays of another model.
        """
        abstract = {"state": abstract_state, "ema": abstract_ema}
        found, trees = self._first_good(step, lambda n: self._read(n, abstract))
        return found, trees["state"], trees["ema"]

    def restore_ema(self, abstract_ema: Tree, step: int | None = None) -> tuple[int, Tree]:
        """(step, ema), as `restore`, reading nothing else."""
        found, trees = self._first_good(step, lambda n: self._read(n, {"ema": abstract_ema}))
        return found, trees["ema"]

    def read_record(self, step: int | None = None) -> tuple[int, dict]:
        """(step, record) of step `step`, or of the newest readable one; lists come as tuples."""
        found, record = self._first_good(step, self._record)
        return found, {name: _tuples(v) for name, v in record.items() if name != "arrays"}

    def close(self) -> None:
        """Waits for Orbax's threads."""
        self._manager.close()

    def _first_good(self, step: int | None, read: Callable[[int], Any]) -> tuple[int, Any]:
        found = self._folder.first_good(step, read)
        self._reload()
        return found

    def _reload(self) -> None:
        if not self._read_only:
            # Orbax reads all metrics, and fails on one that is no JSON.
            first_only(self._folder.pass_over_metrics)
            self._manager.reload()

    def _scored(self, metrics: Mapping[str, float] | None) -> dict[str, float] | None:
        # Orbax ranks whatever has metrics, so a checkpoint not judged by the best one has none.
        return dict(metrics) if metrics and self.best_metric in metrics else None

    def _read(self, step: int, abstract: Mapping[str, Tree]) -> dict[str, Tree]:
        import orbax.checkpoint as ocp

        recorded = self._record(step)["arrays"]
        described = {item: describe(tree) for item, tree in abstract.items()}
        check_same_arrays(
            {item: recorded[item] for item in abstract}, described, f"{self.directory}, step {step}"
        )
        items = {item: ocp.args.StandardRestore(tree) for item, tree in abstract.items()}
        args = ocp.args.Composite(**items)
        restored = together(lambda: self._manager.restore(step, args=args))
        for item in abstract:
            check_hashes(recorded[item], fingerprints(restored[item]))
        return {item: restored[item] for item in abstract}

    def _record(self, step: int) -> dict:
        import orbax.checkpoint as ocp

        items = ocp.args.Composite(record=ocp.args.JsonRestore())
        return unsealed(self._manager.restore(step, args=items)["record"])


def _open_manager(directory: Path, keep_latest: int, keep_best: int, metric: str, read_only: bool):
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


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
