"""`evaluate --bound=...`: bounds asked for, their cost announced, their records, and one table."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vdm.data.batches import eval_batches
from vdm.errors import ConfigError
from vdm.evaluation.bounds import BOUNDS, Bound, make_bound
from vdm.evaluation.bounds.density import FIT_IMAGES
from vdm.evaluation.bounds.elbo import Elbo
from vdm.evaluation.bounds.run import BoundEvaluation, evaluate_bound
from vdm.evaluation.bounds.table import Gap, Row, format_gaps, format_rows, gaps, table_rows
from vdm.evaluation.evaluate import Estimation
from vdm.runs import evaluations, record
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.runs.record import identity, steps_name
from vdm.types import Params

MAX_LABEL = 150


WITH_T = [n for n, kind in BOUNDS.items() if kind.default_timesteps or kind.optional_timesteps]
FLAGS: dict[str, dict[str, str]] = {
    "timesteps": dict.fromkeys(WITH_T, "num_timesteps"),
    "repeats": dict.fromkeys(("elbo", "discrete", "continuous"), "repeats"),
    "density": {"continuous": "density"},
    "iwae_weights": {"iwae": "num_weights"},
    "ode_solver": {"ode": "solver"},
    "ode_tolerance": {"ode": "tolerance"},
    "ode_max_steps": {"ode": "max_steps"},
    "ode_trace": {"ode": "trace"},
    "ode_dequantisation": {"ode": "dequantisation"},
    "ode_weights": {"ode": "num_weights"},
}
"""{flag: {bound: the option that the flag fills in}}."""


def parse(
    text: str, given: Mapping[str, Any], configured: Mapping[str, Any] | None = None
) -> list[Bound]:
    """The bounds of "NAME[@T][:option=value]...[,...]".

    Args:
      text: the value of --bound.
      given: {flag of FLAGS: value}, for the bounds that leave that option open; None = not given.
      configured: options of bound elbo where neither says one.

    Raises:
      ConfigError: a mistake in the text, or a flag of a bound that is not asked for.
    """
    words = text.split(",")
    asked = [word.partition(":")[0].partition("@")[0] for word in words]
    options: dict[str, dict[str, Any]] = {"elbo": dict(configured or {})}
    for flag, value in given.items():
        if value is None:
            continue
        owners = FLAGS[flag]
        if set(asked) <= set(BOUNDS) and not any(name in owners for name in asked):
            raise ConfigError(
                f"--{flag}={value}: is an option of {', '.join(owners)}, and --bound={text} asks for "
                "none of them; leave it out"
            )
        for name, option in owners.items():
            options.setdefault(name, {})[option] = value
    bounds = [make_bound(word, options) for word in words]
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
) -> str:
    """Evaluates every bound, writes a record of each as it is done, and the table when all are.

    Returns:
      The table and its facts, as text.
    """
    options = parts.config["evaluate"]
    split, seed = options["split"], options["seed"]
    # The configured number of randomisations is the ELBO's; other bounds cost far more.
    counts = [
        options["randomisations"]
        if bound.name == "elbo"
        else randomisations or bound.randomisations
        for bound in bounds
    ]
    for bound in bounds:
        _check(bound, parts, params, processes)
    for bound, count in zip(bounds, counts, strict=True):
        print(_cost(bound, count, len(parts.dataset.split(split))), flush=True)
    common, done = identity(parts, params, split, step), []
    for bound, count in zip(bounds, counts, strict=True):
        done.append(_evaluate(bound, parts, params, count, check))
        facts = record.describe(parts, params, done[-1], split, step)
        path = _path(folder, split, step, done[-1])
        record.write_report(path, facts, done[-1])
    if len(done) == 1 and done[0].terms:
        return f"{record.format_report(facts)}\nwritten to {path}"
    path = _table_path(folder, split, step, bounds, randomisations, seed)
    rows, between = table_rows(done), gaps(done)
    table = {
        "table": [record.row_facts(row) for row in rows],
        "differences": [{**vars(gap), "estimate": vars(gap.estimate)} for gap in between],
    }
    evaluations.write(path, {**common, **table})
    text = _format(common, done, rows, between)
    return f"{text}\nwritten to {path}, and a record of each bound beside it"


def _check(bound: Bound, parts: Parts, params: Params, processes: int) -> None:
    bound.check(parts.model, params)
    if processes > 1 and not bound.several_processes:
        raise ConfigError(
            f"bound={bound.name}: is evaluated by one process; leave --distributed out"
        )


def _evaluate(
    bound: Bound, parts: Parts, params: Params, count: int, check: Callable[[], None]
) -> BoundEvaluation:
    """One pass over the split, with a bar; `check` may raise to stop within a batch."""
    options = parts.config["evaluate"]
    batches = eval_batches(parts.dataset, options["split"], options["batch_size"])
    images = parts.dataset.split("train")[:FIT_IMAGES]
    ready = bound.fit(parts.model, params, images, parts.mesh)
    title = f"{bound.label} on {options['split']}"
    with Progress(title, len(batches) * count, "batches") as bar:
        how = (parts.mesh, count, options["seed"], evaluation_progress(bar, check))
        return evaluate_bound(ready, parts.model, params, batches, *how)


def _table_path(
    folder: Path, split: str, step: int, bounds: Sequence[Bound], randomisations, seed: int
) -> Path:
    labels = "+".join(bound.label for bound in bounds)
    if len(labels) > MAX_LABEL:  # file systems end at 255 bytes
        labels = f"{len(bounds)}-{hashlib.sha256(labels.encode()).hexdigest()[:12]}"
    return _bound_path(folder, split, step, f"table-{labels}", randomisations, seed)


def _cost(bound: Bound, count: int, num_images: int) -> str:
    each = bound.network_evaluations()
    start = f"{bound.label}: {count} randomisation(s) of {num_images} images, "
    if each is None:
        return start + "as many network evaluations as the solver needs"
    return start + f"{each} network evaluations each: {each * count * num_images:,}"


def _path(folder: Path, split: str, step: int, found: BoundEvaluation) -> Path:
    """A name per checkpoint, split, bound and estimation; that of the ELBO is the final report's."""
    if isinstance(found.bound, Elbo):
        sizes = (found.bound.num_timesteps, found.bound.repeats, found.randomisations, found.seed)
        return record.report_path(folder, split, step, Estimation(*sizes))
    return _bound_path(folder, split, step, found.bound.label, found.randomisations, found.seed)


def _bound_path(
    folder: Path, split: str, step: int, label: str, randomisations: int | None, seed: int
) -> Path:
    times = f"x{randomisations}" if randomisations else "default"
    name = f"{split}-step{step}-bound-{label}-{times}-seed{seed}.json"
    return folder / "evaluations" / name


def _format(
    common: Mapping[str, Any],
    done: Sequence[BoundEvaluation],
    rows: Sequence[Row],
    between: Sequence[Gap],
) -> str:
    """The table as text, and the facts that hold for all of its bounds."""
    lines = [
        format_rows(rows),
        *filter(None, [format_gaps(between)]),
        f"{common['num_images']} images of {common['data']['name']}/{common['split']}, each once in "
        f"every randomisation; checkpoint step {common['checkpoint_step']}, averaged parameters, "
        f"training seed {common['train_seed']}; T_train = {steps_name(common['timesteps_train'])}",
        f"interval over images, which contains the Monte Carlo error; the latter from at least 8 "
        f"independent randomisations; {common['dtype']}, matmul precision "
        f"{common['provenance']['matmul_precision']}",
    ]
    lines += [f"{found.bound.label}: {_extra(found)}" for found in done if not found.terms]
    notes = common["data"]["notes"]
    return "\n".join([*lines, notes] if notes else lines)


def _extra(found: BoundEvaluation) -> str:
    """Options, and how the evaluations are spread, of a bound that its rows do not describe."""
    options = ", ".join(f"{n} {v}" for n, v in found.bound.facts().items() if n != "bound")
    spent = found.evaluations / found.randomisations
    low, high = math.floor(spent.min()), math.ceil(spent.max())
    return f"{options}; {low} to {high} network evaluations per image and randomisation"
