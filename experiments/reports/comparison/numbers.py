"""The numbers of a comparison: runs opened, checked to be comparable, evaluated together."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.comparison.groups import (
    Group,
    Grouped,
    check_same_data,
    group_runs,
    over_seeds,
)
from vdm.errors import ConfigError
from vdm.evaluation.analysis import noise_levels
from vdm.evaluation.analysis.noise_levels import Band, Profile
from vdm.evaluation.analysis.paired import (
    Difference,
    all_differences,
    common_range,
    make_paired_step,
)
from vdm.evaluation.evaluate import Estimation, Evaluation
from vdm.runs import checkpoints, record
from vdm.runs.flops import train_step_flops
from vdm.runs.folder import distinct_names, require_identity
from vdm.runs.history import training_curves
from vdm.runs.parts import Parts, build_trained
from vdm.seeds import stream_key
from vdm.types import TERM_NAMES, Params

NUM_CURVE_POINTS = 201
NUM_CONTEXTS = 16
TERMS = (*TERM_NAMES, "total")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run's model at one checkpoint."""

    name: str
    folder: Path
    parts: Parts
    step: int
    params: Params


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Attributes:
    runs, evaluations: by name, in the order given.
    facts: each run's report, see `vdm.runs.record.describe`.
    differences: {(run, first run, term): Difference} of runs that share their images.
    profiles: by name; empty for T steps.
    gap_profiles, bands: {run: of its difference from the first}, in continuous time.
    grouped: what the seeds of every group say; None without --group_by.
    notes: what a reader of one column must know, such as data that differ.
    """

    runs: dict[str, Run]
    evaluations: dict[str, Evaluation]
    facts: dict[str, dict[str, Any]]
    differences: dict[tuple[str, str, str], Difference]
    profiles: dict[str, Profile]
    gap_profiles: dict[str, Profile]
    bands: dict[str, Band]
    grouped: Grouped | None
    notes: tuple[str, ...]


def open_runs(
    folders: Sequence[str],
    step: str,
    batch_size: int | None,
    allowed: Sequence[str] = (),
    group_by: Sequence[str] = (),
) -> tuple[list[Run], list[Group], list[str]]:
    """The runs in `folders`, their groups by `group_by`, and the fields in which their data differ.

    Raises:
      ConfigError: fewer than two folders, or runs that do not group.
      DataError: other data than the first run's, in a field not in `allowed`.
      CheckpointError: a folder without a run or without a checkpoint.
    """
    if len(folders) < 2:
        raise ConfigError(f"--workdirs={','.join(folders)}: give two or more folders, with commas")
    identities = [require_identity(Path(f), "--workdirs") for f in folders]
    differing = check_same_data(folders, identities, allowed)
    names = distinct_names(folders)
    configs = {n: i["config"] for n, i in zip(names, identities, strict=True)}
    groups = group_runs(configs, group_by) if group_by else []
    opened = [
        _open_run(*args, step, batch_size) for args in zip(names, folders, identities, strict=True)
    ]
    return opened, groups, differing


def _open_run(name: str, folder: str, identity: dict, step: str, batch_size: int | None) -> Run:
    if batch_size is not None:
        evaluate = {**identity["config"]["evaluate"], "batch_size": batch_size}
        identity = {**identity, "config": {**identity["config"], "evaluate": evaluate}}
    parts = build_trained(identity)
    return Run(name, Path(folder), parts, *checkpoints.load_ema(parts, Path(folder), step))


def shared_timesteps(runs: Sequence[Run], asked: int | None) -> int:
    """T of the bound all runs are evaluated with: the one asked for, or that of their training.

    Runs of a family without a T, which are evaluated by their own bound, have no say.
    """
    found = {run.name: run.parts.model.timesteps_train for run in runs}
    trained = {name: steps for name, steps in found.items() if steps is not None} or {"": 0}
    if asked is not None:
        return asked
    if len(set(trained.values())) > 1:
        listed = ", ".join(f"{name} T={steps}" for name, steps in trained.items())
        raise ConfigError(
            f"--timesteps: the runs were trained on other bounds ({listed}, 0 = continuous); "
            "choose the one to compare, such as --timesteps=0"
        )
    return next(iter(trained.values()))


def run_comparison(
    runs: Sequence[Run],
    split: str,
    estimation: Estimation,
    check: Callable[[], None],
    groups: Sequence[Group] = (),
    differing: Sequence[str] = (),
) -> Comparison:
    """All runs over the whole split with common noise."""
    gammas = common_range([(run.parts.model, run.params) for run in runs])
    evaluations = {}
    for run in runs:
        mesh = run.parts.mesh
        step = make_paired_step(run.parts.model, estimation, gammas, mesh)
        title = f"{split} by {run.name}"
        evaluations[run.name] = record.run_evaluation(
            run.parts, run.params, split, estimation, step, check, title
        )
    facts = {
        run.name: record.describe(
            run.parts, run.params, evaluations[run.name].of_bound(), split, run.step
        )
        for run in runs
    }
    paired, notes = _paired(runs, split, differing)
    means = {
        name: {term: row["mean"] for term, row in fact["bits_per_dim"].items()}
        for name, fact in facts.items()
    }
    profiles, gap_profiles, bands = _profiles(evaluations, paired, estimation, gammas)
    return Comparison(
        runs={run.name: run for run in runs},
        evaluations=evaluations,
        facts=facts,
        differences=all_differences({n: evaluations[n] for n in paired}, TERMS),
        profiles=profiles,
        gap_profiles=gap_profiles,
        bands=bands,
        grouped=over_seeds(groups, means) if groups else None,
        notes=tuple(notes),
    )


def _paired(
    runs: Sequence[Run], split: str, differing: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The runs that share the first one's images, and what to say of the others."""
    first, notes = runs[0].parts.dataset, []
    if differing:
        notes.append(f"Not one kind of number: the runs differ in {', '.join(differing)}.")
    names = []
    for run in runs:
        here = run.parts.dataset
        same = here.spec.num_levels == first.spec.num_levels
        if same and np.array_equal(here.split(split), first.split(split)):
            names.append(run.name)
        else:
            notes.append(f"{run.name} has other {split} images: it has no difference by pairs.")
    return names, notes


def _profiles(
    evaluations: Mapping[str, Evaluation],
    paired: Sequence[str],
    estimation: Estimation,
    gammas: tuple[float, float] | None,
) -> tuple[dict[str, Profile], dict[str, Profile], dict[str, Band]]:
    several = all(len(evaluation.index) > 1 for evaluation in evaluations.values())
    if estimation.num_timesteps or not several or gammas is None:
        return {}, {}, {}
    # Profiles need noise levels, which only evaluations with times have.
    timed = {name: e for name, e in evaluations.items() if e.times is not None}
    binned = {name: noise_levels.bin_paired(e, gammas) for name, e in timed.items()}
    others = [name for name in paired[1:] if {name, paired[0]} <= timed.keys()]
    gaps = {name: binned[name] - binned[paired[0]] for name in others}
    changed = {name: gap for name, gap in gaps.items() if np.any(gap.nats)}
    return (
        {name: noise_levels.profile(found) for name, found in binned.items()},
        {name: noise_levels.profile(gap) for name, gap in changed.items()},
        {name: noise_levels.decisive_band(gap) for name, gap in changed.items()},
    )


def with_schedules(found: Comparison) -> dict[str, Run]:
    """The runs whose model has noise levels."""
    return {n: r for n, r in found.runs.items() if r.parts.model.noise_range(r.params) is not None}


def schedule_curves(run: Run) -> dict[str, np.ndarray]:
    """{"t", "before", "after"}: gamma(t) of fresh and of trained parameters, means over pixels.

    A conditional schedule's are means over NUM_CONTEXTS contexts c ~ p(c) as well.
    """
    times = jnp.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    model, seed = run.parts.model.as_diffusion("schedule curves"), run.parts.config["seed"]
    fresh = jax.jit(model.init)(stream_key(seed, "initialisation"))
    curves = {"t": np.asarray(times)}
    drawn = model.sample_context(jax.random.split(stream_key(seed, "context"), NUM_CONTEXTS))
    contexts = [None] if drawn is None else [jnp.tile(c, (NUM_CURVE_POINTS, 1)) for c in drawn]
    for name, params in (("before", fresh), ("after", run.params)):
        gammas = [model.gamma(params, times, c) for c in contexts]
        means = [np.asarray(g.reshape(NUM_CURVE_POINTS, -1).mean(axis=1)) for g in gammas]
        curves[name] = np.mean(means, axis=0)
    return curves


COMPUTE = {"images": "images seen", "flops": "FLOPs of training", "seconds": "seconds of training"}
"""What runs can be compared at equal amounts of."""


def learning_curves(run: Run) -> dict[str, np.ndarray]:
    """{"step", "images", "flops", "seconds", "train"}: the loss in bits/dim as it was logged.

    FLOPs are nan where XLA gives none.
    """
    curves = training_curves(run.folder)
    per_step = _flops(run) if len(curves["step"]) else None
    return {**curves, "flops": curves["step"] * (np.nan if per_step is None else per_step)}


@functools.lru_cache(maxsize=64)
def _flops(run: Run) -> float | None:
    return train_step_flops(run.parts)


def equal_compute(found: Comparison) -> list[tuple[str, str, float, float]]:
    """[(run, what, amount, training loss)] at the largest amount that every run reached."""
    curves = {name: learning_curves(run) for name, run in found.runs.items()}
    rows = []
    for column, title in COMPUTE.items():
        if not all(len(c[column]) and np.all(np.isfinite(c[column])) for c in curves.values()):
            continue
        amount = min(float(c[column][-1]) for c in curves.values())
        rows += [
            (name, title, amount, float(np.interp(amount, c[column], c["train"])))
            for name, c in curves.items()
        ]
    return rows
