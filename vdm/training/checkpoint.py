"""Save and restore training state with its configuration, data identity and a SHA-256 per array.

One checkpoint is one Orbax step, whose items commit together:

    <directory>/<step>/state    step, parameters, optimizer state
                       ema      averaged parameters; evaluation reads only these
                       record   configuration, data identity, progress, SHA-256 per array, and the
                                metric that decides which is best (JSON, under its own hash)

Orbax restores an array file with a flipped bit without an error, so every array is hashed when it
is saved, and again when it is restored. A damaged step is reported, skipped for the one before,
and renamed to damaged-<step>.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import DiskError, NonFiniteError
from vdm.runtime.hashes import check_hashes, check_same_arrays, describe, fingerprints, sealed
from vdm.runtime.processes import ElsewhereError, first_only, is_first, together
from vdm.training import checkpoint_record as records
from vdm.training.checkpoint_commit import check_room, jointly, save_failure, threads_ended
from vdm.training.checkpoint_folder import Folder
from vdm.training.checkpoint_manager import open_manager
from vdm.training.checkpoint_record import error_line

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
        self._metrics = records.Metrics(
            self.directory, best_metric, warn if is_first() else lambda line: None
        )
        try:
            self._manager = open_manager(
                self.directory, keep_latest, keep_best, self._metrics.of, read_only
            )
        except OSError as error:
            reason = f"cannot be opened ({error_line(error)}); choose another workdir"
            raise DiskError(f"checkpoints={directory}: {reason}") from error

    def steps(self) -> list[int]:
        """Return all committed steps, ascending, without those set aside as damaged."""
        return self._folder.steps()

    def latest_step(self) -> int | None:
        """Return the newest committed step, or None."""
        return max(self.steps(), default=None)

    def remaining(self) -> str:
        """Return which step there is to resume from, as a clause of a message."""
        step = self.latest_step()
        return "no step is there to resume from" if step is None else f"step {step} is intact"

    def best_step(self) -> int | None:
        """Return the step with the lowest `best_metric`, or None if no step was saved with it."""
        scored = [(self.metric(step), step) for step in self.steps()]
        return min(((m, s) for m, s in scored if m is not None), default=(None, None))[1]

    def metric(self, step: int) -> float | None:
        """Return `best_metric` of step `step`, or None."""
        return self._metrics.of(step)

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
          DiskError: the save failed, in every process if in one; nothing of it is left, older steps
            are as they were, and it can be tried again.
        """
        # Hashed before anything is written: nan in the parameters must not push good checkpoints
        # out.
        trees = {"state": state, "ema": ema}
        try:
            hashes = {name: fingerprints(tree, True) for name, tree in trees.items()}
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}: step {step} is not saved; {self.remaining()}") from None
        content = records.make_record(record, hashes, self._scored(metrics))
        try:
            together(lambda: check_room(self.directory, trees))
            jointly(lambda: self._commit(step, trees, content))
        # Orbax and TensorStore raise any of these for a write that fails.
        except (OSError, ValueError, RuntimeError, ExceptionGroup, ElsewhereError) as error:
            # At once: a failed save's own leftovers may be what fills the disk.
            self._folder.remove_partial()
            self._reload()
            reason = f"saving step {step} failed ({save_failure(error)})"
            raise DiskError(f"checkpoints={self.directory}: {reason}") from error
        self._folder.remove_partial()

    def _commit(self, step: int, trees: Mapping[str, Tree], record: Mapping) -> None:
        """Write one step and wait until it is complete."""
        import orbax.checkpoint as ocp

        items: dict[str, Any] = {n: ocp.args.StandardSave(tree) for n, tree in trees.items()}
        args = ocp.args.Composite(**items, record=ocp.args.JsonSave(record))
        with threads_ended():
            self._manager.save(step, args=args, force=True)
            # Only waiting raises what went wrong, such as a full disk.
            self._manager.wait_until_finished()

    def amend(
        self, step: int, changes: Mapping, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Add results that came after step `step` was saved, such as its validation.

        Args:
          step: a committed step.
          changes: entries of its record, new or replaced.
          metrics: as in `save`.

        Raises:
          DiskError: it cannot be written; the step is as it was.
        """

        def write():
            before, former = self._record(step), self._metrics.of(step)
            # A record of an earlier revision lacks the metric; from now on the hash covers it.
            former_metrics = {} if former is None else {self.best_metric: former}
            scored = self._scored(metrics) or before.get("metrics") or former_metrics
            # Sealed again as a whole; the hashes of the arrays stay as they were.
            record = sealed({**before, **changes, "metrics": scored})
            records.write_record(self.directory, step, record)

        try:
            first_only(write)
        except OSError as error:
            reason = (
                f"step {step} cannot be amended ({error_line(error)}); free some space and resume"
            )
            raise DiskError(f"checkpoints={self.directory}: {reason}") from error

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
        wanted = {"ema": abstract_ema}
        restored_step, trees = self._first_good(step, lambda n: self._read(n, wanted))
        return restored_step, trees["ema"]

    def read_record(self, step: int | None = None) -> tuple[int, dict]:
        """Return (step, record) of step `step`, or of the newest readable one for None.

        JSON has no tuples: all lists of the record come as tuples, as they were.
        """
        readable_step, record = self._first_good(step, self._record)
        return readable_step, records.facts_of(record)

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
            self._manager.reload()

    def _scored(self, metrics: Mapping[str, float] | None) -> dict[str, float]:
        """Return the metrics that a step is ranked by; {} for a step that was not validated."""
        return dict(metrics) if metrics and self.best_metric in metrics else {}

    def _read(self, step: int, abstract: Mapping[str, Tree]) -> dict[str, Tree]:
        """Return the trees of one step, each compared with what was recorded when it was saved."""
        import orbax.checkpoint as ocp

        # Shapes and dtypes are compared before, because Orbax would cast a wrong dtype silently.
        # Together, here and below: a process that alone finds damage would restore another step.
        recorded = together(lambda: self._record(step))["arrays"]
        described = {item: describe(tree) for item, tree in abstract.items()}
        check_same_arrays(
            {item: recorded[item] for item in abstract}, described, f"{self.directory}, step {step}"
        )
        items = {item: ocp.args.StandardRestore(tree) for item, tree in abstract.items()}
        args = ocp.args.Composite(**items)
        restored = jointly(lambda: self._manager.restore(step, args=args))

        # Hashes are compared after, because Orbax does not notice a flipped bit.
        hashes = {item: fingerprints(restored[item]) for item in abstract}

        def check():
            for item in abstract:
                check_hashes(recorded[item], hashes[item])

        together(check)
        return {item: restored[item] for item in abstract}

    def _record(self, step: int) -> dict:
        return records.read_record(self.directory, step)
