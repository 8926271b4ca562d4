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
from vdm.evaluation.bounds.run import BoundEvaluation, evaluate_bound
from vdm.evaluation.bounds.table import format_gaps, format_rows, gaps, table_rows
from vdm.runs import evaluations
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.runs.record import identity, steps_name
from vdm.types import Params

MAX_LABEL = 150


FINITE = [name for name, kind in BOUNDS.items() if kind.default_timesteps]
FLAGS: dict[str, dict[str, str]] = {
    "timesteps": dict.fromkeys(FINITE, "num_timesteps"),
    "repeats": {"discrete": "repeats", "continuous": "repeats"},
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


def parse(text: str, given: Mapping[str, Any]) -> list[Bound]:
    """The bounds of "NAME[@T][:option=value]...[,...]".

    Args:
      text: the value of --bound.
      given: {flag of FLAGS: value}, for the bounds that leave that option open; None = not given.

    Raises:
      ConfigError: a mistake in the text, or a flag of a bound that is not asked for.
    """
    words = text.split(",")
    asked = [word.partition(":")[0].partition("@")[0] for word in words]
    options: dict[str, dict[str, Any]] = {}
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
) -> str:
    """Evaluates every bound, writes a record of each as it is done, and the table when all are.

    Returns:
      The table and its facts, as text.
    """
    options = parts.config["evaluate"]
    split, batch_size, seed = (options[name] for name in ("split", "batch_size", "seed"))
    batches = list(eval_batches(parts.dataset, split, batch_size))
    num_images = len(parts.dataset.split(split))
    for bound in bounds:
        bound.check(parts.model, params)
    for bound in bounds:
        print(_cost(bound, randomisations, num_images), flush=True)
    common = identity(parts, params, split, step)
    done = []
    for bound in bounds:
        images = parts.dataset.split("train")[:FIT_IMAGES]
        ready = bound.fit(parts.model, params, images, parts.mesh)
        count = len(batches) * (randomisations or bound.randomisations)
        with Progress(f"{bound.label} on {split}", count, "batches") as bar:
            report = evaluation_progress(bar, check)
            done.append(
                evaluate_bound(
                    ready, parts.model, params, batches, parts.mesh, randomisations, seed, report
                )
            )
        _write(folder, common, done[-1])
    facts = {**common, "table": [_row(row) for row in table_rows(done)]}
    facts["differences"] = [{**vars(gap), "estimate": vars(gap.estimate)} for gap in gaps(done)]
    labels = "+".join(bound.label for bound in bounds)
    if len(labels) > MAX_LABEL:  # file systems end at 255 bytes
        labels = f"{len(bounds)}-{hashlib.sha256(labels.encode()).hexdigest()[:12]}"
    path = _path(folder, common, f"table-{labels}", randomisations, seed)
    evaluations.write(path, facts)
    return f"{_format(common, done)}\nwritten to {path}, and a record of each bound beside it"


def _cost(bound: Bound, randomisations: int | None, num_images: int) -> str:
    each, count = bound.network_evaluations(), randomisations or bound.randomisations
    start = f"{bound.label}: {count} randomisation(s) of {num_images} images, "
    if each is None:
        return start + "as many network evaluations as the solver needs"
    return start + f"{each} network evaluations each: {each * count * num_images:,}"


def _write(folder: Path, common: Mapping[str, Any], found: BoundEvaluation) -> None:
    """The JSON, and beside it per image in nats: index [N], rows [R,N], terms [R,N]."""
    record = {**common, **describe(found)}
    path = _path(folder, common, found.bound.label, found.randomisations, found.seed)
    arrays = {"index": found.index, "network_evaluations": found.evaluations, **found.terms}
    rows = {f"total: {name}": values for name, values in found.rows.items()}
    evaluations.write(path, record, {**arrays, **rows})


def describe(found: BoundEvaluation) -> dict[str, Any]:
    """What one bound gave, and how."""
    terms = {n: vars(found.estimate(v)) for n, v in found.terms.items()}
    return {
        **found.bound.facts(),
        "timesteps_eval": found.bound.num_timesteps,
        "randomisations": found.randomisations,
        "evaluation_seed": found.seed,
        "rows": [_row(row) for row in table_rows([found])],
        "terms": terms,
        "seconds": found.seconds,
    }


def _row(row) -> dict[str, Any]:
    return {**vars(row), "estimate": vars(row.estimate)}


def _path(folder: Path, common: Mapping, label: str, randomisations: int | None, seed: int) -> Path:
    name = f"{common['split']}-step{common['checkpoint_step']}-bound-{label}"
    times = f"x{randomisations}" if randomisations else "default"
    return folder / "evaluations" / f"{name}-{times}-seed{seed}.json"


def _format(common: Mapping[str, Any], done: Sequence[BoundEvaluation]) -> str:
    lines = [
        format_rows(table_rows(done)),
        *filter(None, [format_gaps(gaps(done))]),
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
