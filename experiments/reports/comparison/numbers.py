"""Numbers of a comparison: runs evaluated on common noise, and their differences by pairs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reports.comparison.groups import Group, Grouped, over_seeds
from experiments.reports.comparison.opened import Run, open_runs, shared_timesteps
from vdm.evaluation.analysis import noise_levels
from vdm.evaluation.analysis.noise_levels import Band, Profile
from vdm.evaluation.analysis.paired import (
    Difference,
    all_differences,
    common_range,
    make_paired_step,
)
from vdm.evaluation.evaluate import Estimation, Evaluation
from vdm.runs import record
from vdm.types import TERM_NAMES

TERMS = (*TERM_NAMES, "total")

__all__ = ["TERMS", "Comparison", "Run", "open_runs", "run_comparison", "shared_timesteps"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All numbers of several runs on the same images and noise.

    Attributes:
      runs, evaluations: by name, in the order given.
      facts: each run's report, see `vdm.runs.record.describe`.
      differences: {(run, first run, term): Difference} of runs that share their images.
      profiles: {run: density of the denoising term over gamma}; empty for T steps.
      gap_profiles, bands: {run: profile of its difference from the first run, and the band of gamma
        with most of it}; in continuous time only.
      grouped: statistics between seeds; None without --group_by.
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


def run_comparison(
    runs: Sequence[Run],
    split: str,
    estimation: Estimation,
    check: Callable[[], None],
    groups: Sequence[Group] = (),
    differing: Sequence[str] = (),
) -> Comparison:
    """Evaluate all runs over the whole split with the same noise at equal gamma.

    Args:
      runs: the runs; the first is the one that the others are compared with.
      split: which images.
      estimation: T, one time per image, number of randomisations and seed, the same for all runs.
      check: called between batches; may raise to stop.
      groups: groups of seeds among the runs.
      differing: fields in which the runs' data differ, for the notes.
    """
    # Times are drawn in gamma, over the union of the runs' ranges: at equal t two runs would see
    # different noise levels.
    gammas = common_range([(run.parts.model, run.params) for run in runs])
    evaluations = {}
    for run in runs:
        step = make_paired_step(run.parts.model, estimation, gammas, run.parts.mesh)
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
    means = {
        name: {term: row["mean"] for term, row in fact["bits_per_dim"].items()}
        for name, fact in facts.items()
    }

    paired, notes = _paired(runs, split, differing)
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
    """Return the names of the runs with the first one's images, and notes on the others."""
    first, notes = runs[0].parts.dataset, []
    if differing:
        notes.append(f"Not one kind of number: the runs differ in {', '.join(differing)}.")
    names = []
    for run in runs:
        dataset = run.parts.dataset
        # The images themselves: data of another name or hash may still share this split.
        same = dataset.spec.num_levels == first.spec.num_levels
        if same and np.array_equal(dataset.split(split), first.split(split)):
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
    """Return the profiles over gamma of the runs and of their differences, and the decisive bands.

    Args:
      evaluations: {run: evaluation}.
      paired: names of the runs that share their images, the first run first.
      estimation: how they were evaluated; profiles exist in continuous time only.
      gammas: the common range of gamma; None where a run has no noise levels.
    """
    several = all(len(evaluation.index) > 1 for evaluation in evaluations.values())
    if estimation.num_timesteps or not several or gammas is None:
        return {}, {}, {}

    # Profiles need noise levels, which only evaluations with times have.
    timed = {name: e for name, e in evaluations.items() if e.times is not None}
    binned = {name: noise_levels.bin_paired(e, gammas) for name, e in timed.items()}
    others = [name for name in paired[1:] if {name, paired[0]} <= timed.keys()]
    gaps = {name: binned[name] - binned[paired[0]] for name in others}

    # Two copies of one run differ nowhere, and no band of gamma can be the decisive one.
    changed = {name: gap for name, gap in gaps.items() if np.any(gap.nats)}
    return (
        {name: noise_levels.profile(bins) for name, bins in binned.items()},
        {name: noise_levels.profile(gap) for name, gap in changed.items()},
        {name: noise_levels.decisive_band(gap) for name, gap in changed.items()},
    )
