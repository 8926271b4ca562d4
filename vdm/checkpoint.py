"""Save, verify and restore: parameters, optimizer state, and all that says what they are.

One checkpoint is one Orbax step, whose items commit together:

    <directory>/<step>/state    step, parameters, optimizer state
                       ema      averaged parameters; evaluation reads only these
                       record   configuration, data identity, progress, SHA-256 per array (JSON)
                       metrics  what "best" is judged by

Orbax restores an array file with a flipped bit without a word, so every array is hashed when it is
saved, and again when it is restored. A damaged step is named and passed over for the one before.
"""

import errno
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm import fingerprint
from vdm.errors import CheckpointError, DiskError

Tree = Any
Warn = Callable[[str], None]
ITEMS = ("state", "ema")


class Checkpoints:
    """The checkpoints in one folder.

    Args:
      directory: where they live; made when missing unless `read_only`.
      keep_latest: the newest ones kept.
      keep_best: kept besides, the best by `best_metric` among those saved with it.
      best_metric: name of a metric, lower is better; measured on the validation split.
      read_only: change nothing on disk.
      warn: gets a line when a damaged step is passed over.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        keep_latest: int = 3,
        keep_best: int = 1,
        best_metric: str = "validation_bits_per_dim",
        read_only: bool = False,
        warn: Warn = print,
    ):
        self.directory = Path(directory).resolve()
        self.best_metric = best_metric
        self._warn = warn
        self._damaged: dict[int, str] = {}
        self._manager = _open_manager(
            self.directory, keep_latest, keep_best, best_metric, read_only
        )

    def steps(self) -> list[int]:
        """All committed steps, ascending; those found damaged among them."""
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest committed step, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the lowest `best_metric`, or None where none was saved with it."""
        scored = [(self._metric(step), step) for step in self.steps()]
        return min((pair for pair in scored if pair[0] is not None), default=(None, None))[1]

    def save(
        self,
        step: int,
        state: Tree,
        ema: Tree,
        record: Mapping,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Commits step `step`, then removes what damaged steps and interrupted saves left behind.

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
        hashes = {
            item: fingerprint.fingerprints(tree, refuse_nonfinite=True)
            for item, tree in trees.items()
        }
        items = {
            **{item: ocp.args.StandardSave(tree) for item, tree in trees.items()},
            "record": ocp.args.JsonSave(fingerprint.sealed({**record, "arrays": hashes})),
        }
        # Orbax ranks whatever has metrics, so a checkpoint not judged by the best one has none.
        scored = dict(metrics) if metrics and self.best_metric in metrics else None
        try:
            self._drop_damaged()
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=scored, force=True)
            # Only waiting raises what went wrong, such as a full disk.
            self._manager.wait_until_finished()
            _remove_partial(self.directory)
        except (OSError, ValueError, RuntimeError) as error:
            raise DiskError(
                f"checkpoints={self.directory}: saving step {step} failed ({_line(error)}); "
                "older checkpoints are intact; free some space and resume"
            ) from error

    def restore(
        self, abstract_state: Tree, abstract_ema: Tree, step: int | None = None
    ) -> tuple[int, Tree, Tree]:
        """(step, state, ema) of step `step`, or of the newest one that is undamaged.

        The abstract trees give shapes, dtypes and shardings, see `vdm.devices.abstract_like`.

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
        steps = self.steps()
        if step is not None and step not in steps:
            listed = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"step={step}: {self.directory} has no such step ({listed})")
        if not steps:
            raise CheckpointError(f"checkpoints={self.directory}: holds no checkpoint; train first")
        candidates = [step] if step is not None else steps[::-1]
        for candidate in candidates:
            try:
                return candidate, read(candidate)
            except (fingerprint.OtherModelError, MemoryError):
                raise
            except OSError as error:
                # Only what is missing is damage: a file system may merely be out of reach for now.
                if error.errno not in (None, errno.ENOENT):
                    raise
                self._pass_over(candidate, error)
            except Exception as error:  # a damaged file makes Orbax raise nearly anything
                self._pass_over(candidate, error)
        reasons = "; ".join(f"step {n}: {self._damaged[n]}" for n in candidates)
        raise CheckpointError(f"checkpoints={self.directory}: none can be trusted ({reasons})")

    def _pass_over(self, step: int, error: Exception) -> None:
        self._damaged[step] = _line(error)
        self._warn(
            f"WARNING: checkpoint {self.directory / str(step)} is damaged "
            f"({_line(error)}); trying the one before"
        )

    def _read(self, step: int, abstract: Mapping[str, Tree]) -> dict[str, Tree]:
        import orbax.checkpoint as ocp

        recorded = self._record(step)["arrays"]
        for item, tree in abstract.items():
            fingerprint.check_same_arrays(
                recorded[item], fingerprint.describe(tree), f"{self.directory}, step {step}"
            )
        items = {item: ocp.args.StandardRestore(tree) for item, tree in abstract.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        for item in abstract:
            fingerprint.check_hashes(recorded[item], fingerprint.fingerprints(restored[item]))
        return {item: restored[item] for item in abstract}

    def _record(self, step: int) -> dict:
        import orbax.checkpoint as ocp

        items = ocp.args.Composite(record=ocp.args.JsonRestore())
        return fingerprint.unsealed(self._manager.restore(step, args=items)["record"])

    def _metric(self, step: int) -> float | None:
        path = self.directory / str(step) / "metrics" / "metrics"
        try:
            return float(json.loads(path.read_text())[self.best_metric])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _drop_damaged(self) -> None:
        for step in self._damaged:
            if step in self.steps():
                self._manager.delete(step)
        self._damaged.clear()


def _open_manager(directory: Path, keep_latest: int, keep_best: int, metric: str, read_only: bool):
    # Imported here: evaluation of plain arrays needs no checkpoint, and Orbax takes a second.
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policies

    best = policies.BestN(
        get_metric_fn=lambda metrics: -metrics[metric],
        n=keep_best,
        keep_checkpoints_without_metrics=False,
    )
    options = ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_latest), best]),
        best_fn=lambda metrics: metrics[metric],  # without it no metrics are written
        best_mode="min",
        enable_async_checkpointing=False,
    )
    names = (*ITEMS, "record")
    try:
        return ocp.CheckpointManager(directory, options=options, item_names=names)
    except OSError as error:
        raise DiskError(
            f"checkpoints={directory}: cannot be opened ({_line(error)}); choose another workdir"
        ) from error


def _remove_partial(directory: Path) -> None:
    for path in directory.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path, ignore_errors=True)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
