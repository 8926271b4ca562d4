"""Which runs may stand in one column, and which form one group of seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vdm.errors import ConfigError, DataError
from vdm.evaluation.statistics.between_seeds import BetweenSeeds, SeedGap, between_seeds, seed_gap
from vdm.evaluation.statistics.estimate import holm
from vdm.runs.config import differences, flatten
from vdm.runs.config_identity import effective_fields

MIN_SEEDS = 3
_NO_MATTER = ("data.cache_dir",)
"""Fields that change no number; nor does section "evaluate": all runs are evaluated anew."""


def check_same_data(
    folders: Sequence[str], identities: Sequence[Mapping], allowed: Sequence[str]
) -> list[str]:
    """The fields "data.*" that differ from the first run's, all of them allowed.

    Raises:
      DataError: a field differs that `allowed` does not name.
      ConfigError: `allowed` names a field that does not exist.
    """
    known = [f"data.{name}" for name in flatten(identities[0]["data"])]
    for name in allowed:
        if name not in known:
            listed = ", ".join(known)
            raise ConfigError(f"--allow_different={name}: no such field; choose among {listed}")
    found: dict[str, None] = {}
    for folder, identity in zip(folders, identities, strict=True):
        changes = differences(identities[0]["data"], identity["data"])
        pairs = {f"data.{name}": pair for name, pair in changes.items()}
        if refused := {n: pair for n, pair in pairs.items() if n not in allowed}:
            listed = ", ".join(f"{n} {a!r} and {b!r}" for n, (a, b) in refused.items())
            raise DataError(
                f"--workdirs: {folders[0]} and {folder} were trained on other data ({listed}); to "
                f"put their numbers into one column anyway: --allow_different={','.join(pairs)}"
            )
        found |= dict.fromkeys(pairs)
    return list(found)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
      label: the fields of --group_by and their values.
      seeds: {seed: name of the run}.
    """

    label: str
    seeds: dict[int, str]


def group_runs(configs: Mapping[str, Mapping], fields: Sequence[str]) -> list[Group]:
    """Runs {name: configuration} by the values of `fields`, in the order of their first member.

    Raises:
      ConfigError: no such field; a group whose runs differ in more than their seeds, has one seed
        twice, or fewer than MIN_SEEDS of them.
    """
    # A field that an older configuration lacks had its default.
    flat = {name: effective_fields(config) for name, config in configs.items()}
    for field in fields:
        if missing := [name for name, values in flat.items() if field not in values]:
            raise ConfigError(f"--group_by={field}: {missing[0]} has no such field, as in seed")
        if field == "seed":
            raise ConfigError("--group_by=seed: groups are of seeds; name what tells groups apart")
    members: dict[str, list[str]] = {}
    for name, values in flat.items():
        label = ", ".join(f"{field}={values[field]}" for field in fields)
        members.setdefault(label, []).append(name)
    return [_group(label, names, flat) for label, names in members.items()]


def _group(label: str, names: Sequence[str], flat: Mapping[str, Mapping[str, Any]]) -> Group:
    first, *rest = names
    for name in rest:
        differing = [
            f"{field} {flat[first].get(field)!r} and {flat[name].get(field)!r}"
            for field in sorted(flat[first].keys() | flat[name].keys())
            if flat[first].get(field) != flat[name].get(field)
            and field != "seed"
            and field not in _NO_MATTER
            and not field.startswith("evaluate.")
        ]
        if differing:
            raise ConfigError(
                f"--group_by: {first} and {name} of group {label} differ in more than seed: "
                f"{', '.join(differing)}; name such a field in --group_by, or leave the run out"
            )
    seeds = {flat[name]["seed"]: name for name in names}
    if len(seeds) < len(names):
        raise ConfigError(f"--group_by: group {label} holds a seed twice: {', '.join(names)}")
    if len(seeds) < MIN_SEEDS:
        raise ConfigError(
            f"--group_by: group {label} has {len(seeds)} seed(s) ({', '.join(names)}); "
            f"intervals between seeds need at least {MIN_SEEDS}"
        )
    return Group(label, seeds)


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Attributes:
    groups: by label.
    between: {(group, term): over its seeds}.
    gaps: {(group, first group, term): their difference and its p value by Holm over groups}.
    """

    groups: dict[str, Group]
    between: dict[tuple[str, str], BetweenSeeds]
    gaps: dict[tuple[str, str, str], tuple[SeedGap, float | None]]


def over_seeds(groups: Sequence[Group], means: Mapping[str, Mapping[str, float]]) -> Grouped:
    """What the seeds of every group say; `means` is {run: {term: bits/dim}}."""
    terms = list(next(iter(means.values())))
    values = {
        (g.label, term): {seed: means[name][term] for seed, name in g.seeds.items()}
        for g in groups
        for term in terms
    }
    first, *rest = [g.label for g in groups]
    gaps: dict[tuple[str, str, str], tuple[SeedGap, float | None]] = {}
    for term in terms:
        found = {label: seed_gap(values[label, term], values[first, term]) for label in rest}
        tested = {label: g.p_value for label, g in found.items() if g.p_value is not None}
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        gaps |= {(label, first, term): (g, adjusted.get(label)) for label, g in found.items()}
    between = {place: between_seeds(list(v.values())) for place, v in values.items()}
    return Grouped({g.label: g for g in groups}, between, gaps)
