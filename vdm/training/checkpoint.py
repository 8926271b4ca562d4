"""Save and restore training state with its configuration, data identity and a SHA-256 per array.

One checkpoint is one Orbax step, whose items commit together:

    <directory>/<step>/state    step, parameters, optimizer state
                       ema      averaged parameters; evaluation reads only these
                       record   configuration, data identity, progress, SHA-256 per array (JSON)
                       metrics  the metric that decides which checkpoint is best

Orbax restores an array file with a flipped bit without an error, so every array is hashed when it
is saved, and again when it is restored. A damaged step is reported, skipped for the one before,
and renamed to damaged-<step>.
"""

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
from vdm.training.checkpoint_manager import open_manager

Tree = Any


class Checkpoints:
    """The checkpoints in one folder.

    Args:
      directory: the folder; created when missing unless `read_only`.
      keep_latest: number of newest checkpoints to keep.
      keep_best: number of checkpoints to keep besides, the best by `best_metric` among those saved
        with it.
      best_metric: name of a metric, lower is better; measured on the validation split.
      read_only: change nothing on disk.
      warn: called with a line when something damaged is skipped.

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
        # Among several processes only the first changes what is on disk.
        self._folder = Folder(self.directory, read_only or not is_first(), warn)

        # A metrics file that is no JSON must go first: Orbax reads them all when it opens the
        # folder.
        try:
            first_only(self._folder.pass_over_metrics)
            self._manager = open_manager(
                self.directory, keep_latest, keep_best, best_metric, read_only
            )
        except OSError as error:
            raise DiskError(
                f"checkpoints={directory}: cannot be opened ({line(error)}); choose another workdir"
            ) from error

    def steps(self) -> list[int]:
        """Return all committed steps, ascending, without those set aside as damaged."""
        return self._folder.steps()

    def latest_step(self) -> int | None:
        """Return the newest committed step, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Return the step with the lowest `best_metric`, or None if no step was saved with it."""
        metrics = {step: self.metric(step) for step in self.steps()}
        scored = [(metric, step) for step, metric in metrics.items() if metric is not None]
        return min(scored, default=(None, None))[1]

    def metric(self, step: int) -> float | None:
        """Return `best_metric` of step `step`, or None."""
        return self._folder.read_metric(step, self.best_metric)

    def save(
        self,
        step: int,
        state: Tree,
        ema: Tree,
        record: Mapping,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Commit step `step`, then remove what interrupted saves left behind.

        Args:
          step: updates made.
          state: everything but the averaged parameters.
          ema: the averaged parameters.
          record: JSON-able facts to keep with them: configuration, data identity, progress.
          metrics: metrics of this step; without `best_metric` among them it never counts as best.

        Raises:
          NonFiniteError: an array holds nan or inf; nothing is written.
          DiskError: the save failed; older steps are intact.
        """
        import orbax.checkpoint as ocp

        # Hashed before anything is written: nan in the parameters must not push good checkpoints
        # out.
        trees = {"state": state, "ema": ema}
        hashes = {item: fingerprints(tree, refuse_nonfinite=True) for item, tree in trees.items()}
        items = {
            **{item: ocp.args.StandardSave(tree) for item, tree in trees.items()},
            "record": ocp.args.JsonSave(sealed({**record, "arrays": hashes})),
        }
        args, scored = ocp.args.Composite(**items), self._scored(metrics)

        # Leftovers of earlier kills are removed only now: one more valid step is on disk.
        try:
            together(lambda: self._commit(step, args, scored))
            self._folder.remove_partial()
        except (OSError, ValueError, RuntimeError, ElsewhereError) as error:
            raise DiskError(
                f"checkpoints={self.directory}: saving step {step} failed ({line(error)}); "
                "older checkpoints are intact; free some space and resume"
            ) from error

    def _commit(self, step: int, args: Any, metrics: dict | None) -> None:
        """Write one step and wait until it is complete."""
        self._manager.save(step, args=args, metrics=metrics, force=True)
        # Only waiting raises what went wrong, such as a full disk.
        self._manager.wait_until_finished()

    def amend(
        self, step: int, changes: Mapping, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Add results that came after step `step` was saved, such as its validation.

        The metrics are written first: a kill in between leaves a record that asks for them once
        more.

        Args:
          step: a committed step.
          changes: entries of its record, new or replaced.
          metrics: as in `save`.

        Raises:
          DiskError: it cannot be written; the step is as it was.
        """

        # The record is sealed again as a whole; its hashes of the arrays stay as they were.
        record = sealed({**self._record(step), **changes})
        scored = self._scored(metrics)

        def write():
            if scored:
                self._folder.write_json(step, METRICS, scored)
            self._folder.write_json(step, RECORD, record)

        # Orbax must read the folder again, or it would rank the step by what it remembers.
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
        """Return (step, state, ema) of step `step`, or of the newest undamaged one for None.

        Args:
          abstract_state: shapes, dtypes and shardings of the state, see
            `vdm.runtime.devices.abstract_like`.
          abstract_ema: the same of the averaged parameters.
          step: a committed step, or None.

        Raises:
          CheckpointError: no such step, none undamaged, or arrays of another model.
        """
        abstract = {"state": abstract_state, "ema": abstract_ema}
        restored_step, trees = self._first_good(step, lambda n: self._read(n, abstract))
        return restored_step, trees["state"], trees["ema"]

    def restore_ema(self, abstract_ema: Tree, step: int | None = None) -> tuple[int, Tree]:
        """Return (step, ema) as `restore` does, reading nothing else."""
        restored_step, trees = self._first_good(
            step, lambda n: self._read(n, {"ema": abstract_ema})
        )
        return restored_step, trees["ema"]

    def read_record(self, step: int | None = None) -> tuple[int, dict]:
        """Return (step, record) of step `step`, or of the newest readable one for None.

        JSON has no tuples: all lists of the record come as tuples, as they were.
        """
        readable_step, record = self._first_good(step, self._record)
        return readable_step, {name: _tuples(v) for name, v in record.items() if name != "arrays"}

    def close(self) -> None:
        """Wait for Orbax's threads."""
        self._manager.close()

    def _first_good(self, step: int | None, read: Callable[[int], Any]) -> tuple[int, Any]:
        """Return (step, read(step)) of the newest readable step; damaged ones are set aside."""
        result = self._folder.first_good(step, read)
        self._reload()
        return result

    def _reload(self) -> None:
        """Make Orbax read the folder again, whose steps were changed behind its back."""
        if not self._read_only:
            # Orbax reads all metrics, and fails on one that is no JSON.
            first_only(self._folder.pass_over_metrics)
            self._manager.reload()

    def _scored(self, metrics: Mapping[str, float] | None) -> dict[str, float] | None:
        """Return the metrics that Orbax ranks a step by; None for a step that was not validated."""
        # Orbax ranks whatever has metrics, so a checkpoint not judged by the best one has none.
        return dict(metrics) if metrics and self.best_metric in metrics else None

    def _read(self, step: int, abstract: Mapping[str, Tree]) -> dict[str, Tree]:
        """Return the trees of one step, each compared with what was recorded when it was saved."""
        import orbax.checkpoint as ocp

        # Shapes and dtypes are compared before, because Orbax would cast a wrong dtype silently.
        recorded = self._record(step)["arrays"]
        described = {item: describe(tree) for item, tree in abstract.items()}
        check_same_arrays(
            {item: recorded[item] for item in abstract}, described, f"{self.directory}, step {step}"
        )
        items = {item: ocp.args.StandardRestore(tree) for item, tree in abstract.items()}
        args = ocp.args.Composite(**items)
        restored = together(lambda: self._manager.restore(step, args=args))

        # Hashes are compared after, because Orbax does not notice a flipped bit.
        for item in abstract:
            check_hashes(recorded[item], fingerprints(restored[item]))
        return {item: restored[item] for item in abstract}

    def _record(self, step: int) -> dict:
        """Return the record of one step, or raise where its own hash does not fit."""
        import orbax.checkpoint as ocp

        items = ocp.args.Composite(record=ocp.args.JsonRestore())
        return unsealed(self._manager.restore(step, args=items)["record"])


def _tuples(value: Any) -> Any:
    """Return a value read from JSON with its lists as the tuples they were."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
