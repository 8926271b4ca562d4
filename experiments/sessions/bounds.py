"""`evaluate --bound=...`: the bounds asked for, their cost, a record of each, and one table."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.bounds import format_bounds, format_cost, format_done
from vdm.data.batches import eval_batches
from vdm.errors import ConfigError, DiskError
from vdm.evaluation.bounds import BOUNDS, Bound, make_bound
from vdm.evaluation.bounds.density import FIT_IMAGES
from vdm.evaluation.bounds.options import options_of
from vdm.evaluation.bounds.run import BoundEvaluation, evaluate_bound
from vdm.evaluation.bounds.table import gaps, table_rows
from vdm.runs import evaluations, record
from vdm.runs.folder import check_writable
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.types import Params

MAX_LABEL = 150
"""Longest list of bounds in a file's name: file systems end at 255 bytes."""

TAKERS = {
    "timesteps": [
        n for n, kind in BOUNDS.items() if kind.default_timesteps or kind.optional_timesteps
    ],
    "repeats": [n for n, kind in BOUNDS.items() if "repeats" in options_of(kind)],
}
"""{flag: the bounds that have such an option}."""

_OPTIONS = {"timesteps": "num_timesteps", "repeats": "repeats"}


def parse(text: str, given: Mapping[str, int | None], config: Mapping[str, Any]) -> list[Bound]:
    """Return the bounds of "NAME[@T][:option=value]...[,...]".

    Args:
      text: the value of --bound.
      given: {flag of TAKERS: its value, or None where it is not given}, for every bound that leaves
        that option open.
      config: configuration of the run; for a bound that is `configured`, its section "evaluate" gives
        the options that neither text nor flags set.

    Raises:
      ConfigError: a mistake in the text, or a flag that none of the bounds takes.
    """
    words = text.split(",")
    asked = [word.partition(":")[0].partition("@")[0] for word in words]
    configured = _configured_options(config)
    options = {name: dict(configured) for name, kind in BOUNDS.items() if kind.configured}

    for flag, value in given.items():
        if value is None:
            continue
        takers = TAKERS[flag]
        # An unknown name is left to `make_bound`, whose message offers the choices.
        if set(asked) <= set(BOUNDS) and not set(asked) & set(takers):
            raise ConfigError(
                f"--{flag}={value}: is an option of {', '.join(takers)}, and --bound={text} asks for "
                "none of them; leave it out"
            )
        for name in takers:
            options.setdefault(name, {})[_OPTIONS[flag]] = value

    bounds = [make_bound(word, options) for word in words]
    # Compared as records: "iwae" and "iwae:num_weights=16" are one bound and would share a file.
    if twice := [word for word, one in zip(words, bounds, strict=True) if bounds.count(one) > 1]:
        raise ConfigError(f"--bound={text}: {twice[0]} is named twice; keep one")
    return bounds


def run(
    parts: Parts,
    params: Params,
    folder: Path,
    step: int,
    bounds: Sequence[Bound],
    randomisations: int | None,
    check: Callable[[], None],
    processes: int = 1,
) -> None:
    """Evaluate every bound, print and write each as it is done, and the table when all are.

    Every number is printed before it is written: where the disk is full, all bounds are still
    evaluated and printed.

    Args:
      parts: data, model and devices; section "evaluate" of its configuration names split, seed and
        batch size.
      params: the averaged (EMA) parameters.
      folder: the work folder, whose evaluations/ is written into.
      step: number of training steps of the checkpoint that `params` are from.
      bounds: the bounds to evaluate, in this order.
      randomisations: independent randomisations of each; None leaves it to the bound.
      check: called after every batch; may raise to stop.
      processes: number of processes that hold a share of each batch.

    Raises:
      ConfigError: a bound that cannot serve this model, or not in several processes.
      DiskError: a record could not be written; raised at the end.
    """
    options = parts.config["evaluate"]
    split, seed = options["split"], options["seed"]
    counts = [_count(bound, options, randomisations) for bound in bounds]

    # All are checked before the first starts, which may take hours.
    for bound in bounds:
        _check(bound, parts, params, processes)
    for bound, count in zip(bounds, counts, strict=True):
        print(format_cost(bound, count, len(parts.dataset.split(split))), flush=True)

    # The facts are taken once: the hash of the parameters alone takes seconds.
    common, done, writes = record.identity(parts, params, split, step), [], _Writes(folder)
    for bound, count in zip(bounds, counts, strict=True):
        evaluation = _evaluate(bound, parts, params, count, check)
        done.append(evaluation)
        facts = record.describe(parts, params, evaluation, split, step)
        is_alone = len(bounds) == 1 and bool(evaluation.terms)
        print(record.format_report(facts) if is_alone else format_done(evaluation), flush=True)
        name = evaluation.bound.record_name(evaluation.randomisations, evaluation.seed)
        path = record.record_path(folder, split, step, name)
        writes(record.write_report, path, facts, evaluation)
    if not is_alone:
        path = record.record_path(folder, split, step, _table_name(bounds, randomisations, seed))
        writes(_write_table, path, common, done)

    # In the end, so that no bound is left out for want of room on the disk.
    writes.raise_failure()
    print(f"written to {path}" + ("" if is_alone else ", and a record of each bound beside it"))


def _write_table(path: Path, common: Mapping[str, Any], done: Sequence[BoundEvaluation]) -> None:
    """Print the table of all bounds, and write it.

    Args:
      path: the record's file.
      common: the facts of the checkpoint and the split.
      done: the bounds.
    """
    rows, differences = table_rows(done), gaps(done)
    print(format_bounds(common, done, rows, differences), flush=True)
    table = {
        "table": [record.row_facts(row) for row in rows],
        "differences": [{**vars(gap), "estimate": vars(gap.estimate)} for gap in differences],
    }
    evaluations.write(path, {**common, **table})


class _Writes:
    """Writes of records; the first that fails is raised when all are tried."""

    def __init__(self, folder: Path) -> None:
        """Warn if the work folder cannot be written, before hours of evaluation."""
        self._failure: DiskError | None = None
        try:
            check_writable(folder)
        except ConfigError as error:
            _warn(f"{error}; numbers will be printed only")

    def __call__(self, write: Callable[..., None], *args: Any) -> None:
        """Call write(*args), or warn that it failed."""
        try:
            write(*args)
        except DiskError as error:
            self._failure = self._failure or error
            _warn(f"{error}; its numbers are those printed")

    def raise_failure(self) -> None:
        """Raise the first failure, if any."""
        if self._failure:
            raise self._failure


def _warn(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr, flush=True)


def _configured_options(config: Mapping[str, Any]) -> dict[str, int]:
    """Return T and repeats of section "evaluate"; T is that of training if the section has None."""
    timesteps = config["evaluate"]["num_timesteps"]
    trained = config["objective"]["num_timesteps"]
    return {
        "num_timesteps": trained if timesteps is None else timesteps,
        "repeats": config["evaluate"]["repeats"],
    }


def _count(bound: Bound, options: Mapping[str, Any], randomisations: int | None) -> int:
    # The configured number is meant for the ELBO alone: other bounds cost far more.
    if bound.configured:
        return options["randomisations"]
    return randomisations or bound.randomisations


def _check(bound: Bound, parts: Parts, params: Params, processes: int) -> None:
    bound.check(parts.model, params)
    if processes > 1 and not bound.several_processes:
        raise ConfigError(
            f"bound={bound.name}: is evaluated by one process; leave --distributed out"
        )


def _evaluate(
    bound: Bound, parts: Parts, params: Params, count: int, check: Callable[[], None]
) -> BoundEvaluation:
    """Evaluate one bound over the split with a progress bar, fitted to training images if it has a fit.

    Args:
      bound: the bound.
      parts: data, model, devices and section "evaluate".
      params: the averaged parameters.
      count: number of randomisations.
      check: called after every batch; may raise to stop.
    """
    options = parts.config["evaluate"]
    batches = eval_batches(parts.dataset, options["split"], options["batch_size"])
    images = parts.dataset.split("train")[:FIT_IMAGES]
    ready = bound.fit(parts.model, params, images, parts.mesh)
    title = f"{bound.label} on {options['split']}"
    with Progress(title, len(batches) * count, "batches") as bar:
        how = (parts.mesh, count, options["seed"], evaluation_progress(bar, check))
        return evaluate_bound(ready, parts.model, params, batches, *how)


def _table_name(bounds: Sequence[Bound], randomisations: int | None, seed: int) -> str:
    labels = "+".join(bound.label for bound in bounds)
    if len(labels) > MAX_LABEL:
        labels = f"{len(bounds)}-{hashlib.sha256(labels.encode()).hexdigest()[:12]}"
    times = f"x{randomisations}" if randomisations else "default"
    return f"bound-table-{labels}-{times}-seed{seed}"
