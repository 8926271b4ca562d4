"""Conditions under which runs are compared, and groups of runs that differ in their seed alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vdm.errors import ConfigError, DataError
from vdm.evaluation.statistics.between_seeds import BetweenSeeds, SeedGap, between_seeds, seed_gap
from vdm.evaluation.statistics.estimate import holm
from vdm.runs.config import differences, flatten
from vdm.runs.config_identity import effective_fields

MIN_SEEDS = 3
"""Fewest seeds of a group: an interval from two has one degree of freedom."""
_NO_MATTER = ("data.cache_dir",)
"""Fields that change no number; nor does section "evaluate": all runs are evaluated anew."""


def check_same_data(
    folders: Sequence[str], identities: Sequence[Mapping], allowed: Sequence[str]
) -> list[str]:
    """Return the names "data.*" of the fields in which any run differs from the first run.

    The comparison is refused unless every one of them is in `allowed`.

    Args:
      folders: the work folders, for messages.
      identities: contents of their config.json.
      allowed: fields that may differ, such as "data.content_hash".

    Raises:
      DataError: a field differs that `allowed` does not name.
      ConfigError: `allowed` names a field that does not exist.
    """
    # A misspelt field would allow nothing, and the refusal below would not say why.
    known = [f"data.{name}" for name in flatten(identities[0]["data"])]
    for name in allowed:
        if name not in known:
            listed = ", ".join(known)
            raise ConfigError(f"--allow_different={name}: no such field; choose among {listed}")

    differing: dict[str, None] = {}
    for folder, identity in zip(folders, identities, strict=True):
        changes = differences(identities[0]["data"], identity["data"])
        pairs = {f"data.{name}": pair for name, pair in changes.items()}
        # Without the user's consent one column would mix bits/dim of different data.
        if refused := {n: pair for n, pair in pairs.items() if n not in allowed}:
            listed = ", ".join(f"{n} {a!r} and {b!r}" for n, (a, b) in refused.items())
            raise DataError(
                f"--workdirs: {folders[0]} and {folder} were trained on other data ({listed}); to "
                f"put their numbers into one column anyway: --allow_different={','.join(pairs)}"
            )
        differing |= dict.fromkeys(pairs)
    return list(differing)


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
    """Group runs by the values of `fields`, in the order of their first member.

    Args:
      configs: {name of the run: its configuration}.
      fields: dotted fields of the configuration, such as "schedule.name".

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
    """Make one group, and check that its runs differ in their seeds alone.

    Args:
      label: what the group is called.
      names: its runs.
      flat: {run: {dotted field: value}}.
    """
    # Every other field must agree, or the spread between seeds would hold other effects too.
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

    # Equal seeds are one draw counted twice.
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
    """Statistics between the seeds of every group.

    Attributes:
      groups: {label: group}.
      between: {(group, term): mean, deviation and intervals over its seeds, bits/dim}.
      gaps: {(group, first group, term): their difference, and its p value adjusted over groups by
        Holm's method; None where there is no p value}.
    """

    groups: dict[str, Group]
    between: dict[tuple[str, str], BetweenSeeds]
    gaps: dict[tuple[str, str, str], tuple[SeedGap, float | None]]


def over_seeds(groups: Sequence[Group], means: Mapping[str, Mapping[str, float]]) -> Grouped:
    """Compute the statistics between seeds; `means` is {run: {term: bits/dim}}."""
    terms = list(next(iter(means.values())))
    values = {
        (g.label, term): {seed: means[name][term] for seed, name in g.seeds.items()}
        for g in groups
        for term in terms
    }

    # Adjusted within a term, over the groups that are compared with the first.
    first, *rest = [g.label for g in groups]
    gaps: dict[tuple[str, str, str], tuple[SeedGap, float | None]] = {}
    for term in terms:
        differences_of_term = {
            label: seed_gap(values[label, term], values[first, term]) for label in rest
        }
        tested = {
            label: g.p_value for label, g in differences_of_term.items() if g.p_value is not None
        }
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        gaps |= {
            (label, first, term): (g, adjusted.get(label))
            for label, g in differences_of_term.items()
        }

    between = {place: between_seeds(list(v.values())) for place, v in values.items()}
    return Grouped({g.label: g for g in groups}, between, gaps)
