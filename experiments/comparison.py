"""The numbers of a comparison: runs opened, checked to be comparable, evaluated together."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import build, checkpoints, report, workdir
from experiments.build import Parts
from vdm import compare
from vdm.compare import Difference, Profile
from vdm.errors import ConfigError, DataError
from vdm.evaluate import Evaluation, Sampling, format_table, summarise
from vdm.objective import TERM_NAMES
from vdm.seeds import stream_key
from vdm.train.writers import read_json_lines
from vdm.types import Params

NUM_CURVE_POINTS = 201


@dataclasses.dataclass(frozen=True)
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
    facts: each run's report, see `experiments.report.describe`.
    differences: {(run, first run, term): Difference}.
    profiles: by name; empty for T steps.
    """

    runs: dict[str, Run]
    evaluations: dict[str, Evaluation]
    facts: dict[str, dict[str, Any]]
    differences: dict[tuple[str, str, str], Difference]
    profiles: dict[str, Profile]


def open_runs(folders: Sequence[str], step: str, batch_size: int | None) -> list[Run]:
    """The runs in `folders`, of the same data.

    Raises:
      ConfigError: fewer than two folders.
      DataError: other data than the first run's.
      CheckpointError: a folder without a run or without a checkpoint.
    """
    if len(folders) < 2:
        raise ConfigError(f"--workdirs={','.join(folders)}: give two or more folders, with commas")
    identities = [workdir.require_identity(Path(f), "--workdirs") for f in folders]
    for folder, identity in zip(folders, identities, strict=True):
        if identity["data"] != identities[0]["data"]:
            raise DataError(f"--workdirs: {folder} was trained on other data than {folders[0]}")
    names = _names(folders)
    return [
        _open_run(*args, step, batch_size) for args in zip(names, folders, identities, strict=True)
    ]


def _open_run(name: str, folder: str, identity: dict, step: str, batch_size: int | None) -> Run:
    if batch_size is not None:
        evaluate = {**identity["config"]["evaluate"], "batch_size": batch_size}
        identity = {**identity, "config": {**identity["config"], "evaluate": evaluate}}
    parts = build.build_trained(identity)
    return Run(name, Path(folder), parts, *checkpoints.load_ema(parts, Path(folder), step))


def _names(folders: Sequence[str]) -> list[str]:
    """The folders' own names, numbered where they repeat."""
    stems = [Path(f).resolve().name for f in folders]
    return [s if stems.count(s) == 1 else f"{s} ({n})" for n, s in enumerate(stems, start=1)]


def shared_timesteps(runs: Sequence[Run], asked: int | None) -> int:
    """T of the bound all runs are evaluated with: the one asked for, or that of their training."""
    trained = {run.name: run.parts.config["objective"]["num_timesteps"] for run in runs}
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
    runs: Sequence[Run], split: str, sampling: Sampling, check: Callable[[], None]
) -> Comparison:
    """All runs over the whole split with common noise."""
    gammas = compare.common_range([(run.parts.model, run.params) for run in runs])
    evaluations = {}
    for run in runs:
        mesh = run.parts.mesh
        step = compare.make_paired_step(run.parts.model, sampling, gammas, mesh)
        title = f"{split} by {run.name}"
        evaluations[run.name] = report.run_evaluation(
            run.parts, run.params, split, sampling, step, check, title
        )
    names = (*TERM_NAMES, "total")
    continuous = sampling.num_timesteps == 0
    return Comparison(
        runs={run.name: run for run in runs},
        evaluations=evaluations,
        facts={
            run.name: report.describe(run.parts, evaluations[run.name], split, run.step)
            for run in runs
        },
        differences=compare.all_differences(evaluations, names),
        profiles={n: compare.profile(e, gammas) for n, e in evaluations.items() if continuous},
    )


def format_tables(found: Comparison) -> str:
    """Every run's table, and the differences of the totals."""
    lines = []
    for name, evaluation in found.evaluations.items():
        lines += [f"{name}, checkpoint step {found.runs[name].step}"]
        lines += [format_table(summarise(evaluation)), ""]
    lines.append("differences of the total in bits/dim, by pairs of equal image and noise")
    for (run, other, term), gap in found.differences.items():
        if term == "total":
            lines.append(f"  {run} - {other}: {format_difference(gap)}")
    return "\n".join(lines)


def format_difference(gap: Difference) -> str:
    """Mean, interval, and what pairing bought."""
    if gap.identical:
        return "0, identical on every image"
    if gap.interval is None:
        return f"{gap.mean:+.4f}, interval not estimated from one image"
    low, high = gap.interval
    text = f"{gap.mean:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}]"
    return text if gap.shrinkage is None else f"{text}; {_narrower(gap.shrinkage)} by pairing"


def _narrower(shrinkage: float) -> str:
    return f"{shrinkage:.1f} times narrower"


def schedule_curves(run: Run) -> dict[str, np.ndarray]:
    """{"t", "before", "after"}: gamma(t) of fresh and of trained parameters, means over pixels."""
    times = jnp.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    model, seed = run.parts.model, run.parts.config["seed"]
    fresh = jax.jit(model.init)(stream_key(seed, "initialisation"))
    curves = {"t": np.asarray(times)}
    for name, params in (("before", fresh), ("after", run.params)):
        gamma = model.schedule.gamma(params["schedule"], times)
        curves[name] = np.asarray(gamma.reshape(NUM_CURVE_POINTS, -1).mean(axis=1))
    return curves


def learning_curves(run: Run) -> dict[str, np.ndarray]:
    """{"step", "images", "seconds", "train"}: the loss in bits/dim as it was logged."""
    lines = read_json_lines(run.folder / "metrics.jsonl")
    logged = [line for line in lines if "images_seen" in line]
    columns = {"step": "step", "images": "images_seen", "seconds": "seconds"}
    columns["train"] = "bits_per_dim"
    return {name: np.array([line[key] for line in logged]) for name, key in columns.items()}
