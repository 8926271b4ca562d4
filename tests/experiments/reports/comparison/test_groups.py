"""Runs that may share a column, and runs that form a group of seeds."""

import numpy as np
import pytest

from experiments.reports.comparison.groups import check_same_data, group_runs, over_seeds
from vdm.errors import ConfigError, DataError

DATA = {"name": "digits", "shape": (8, 8, 1), "num_levels": 17, "split_sizes": {"test": 297}}


def identities(**changes):
    return [
        {"data": {**DATA, "content_hash": "a"}},
        {"data": {**DATA, "content_hash": "a", **changes}},
    ]


def test_the_same_data_pass():
    assert check_same_data(["A", "B"], identities(), []) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"content_hash": "b"}, "data.content_hash"),
        ({"num_levels": 256}, "data.num_levels"),
        ({"split_sizes": {"test": 300}}, "data.split_sizes.test"),
    ],
)
def test_other_data_are_refused_by_field_unless_allowed(changes, field):
    with pytest.raises(DataError, match=f"{field} .*--allow_different={field}"):
        check_same_data(["A", "B"], identities(**changes), [])
    assert check_same_data(["A", "B"], identities(**changes), [field]) == [field]


def test_one_allowed_field_does_not_allow_another():
    with pytest.raises(DataError, match=r"\(data.content_hash 'a' and 'b'\)"):
        check_same_data(["A", "B"], identities(num_levels=3, content_hash="b"), ["data.num_levels"])
    with pytest.raises(ConfigError, match="--allow_different=hash: no such field"):
        check_same_data(["A", "B"], identities(), ["hash"])


def configs(*rows):
    return {
        f"{name}-{seed}": {"seed": seed, "schedule": {"name": name}, "optimizer": {"rate": rate}}
        for name, seed, rate in rows
    }


ROWS = [(name, seed, 0.1) for name in ("linear", "cosine") for seed in (3, 4, 5)]


def test_groups_of_seeds():
    groups = group_runs(configs(*ROWS), ["schedule.name"])
    assert [g.label for g in groups] == ["schedule.name=linear", "schedule.name=cosine"]
    assert groups[1].seeds == {3: "cosine-3", 4: "cosine-4", 5: "cosine-5"}


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (ROWS[:2], ["schedule.name"], r"2 seed\(s\).*at least 3"),
        ([*ROWS[:5], ("cosine", 5, 0.2)], ["schedule.name"], "optimizer.rate 0.1 and 0.2"),
        (ROWS, ["optimizer.rate"], "differ in more than seed: schedule.name 'linear' and 'cosine'"),
        (ROWS, ["schedule"], "--group_by=schedule: linear-3 has no such field"),
        (ROWS, ["seed"], "--group_by=seed"),
    ],
)
def test_what_is_no_group_is_refused(rows, fields, message):
    with pytest.raises(ConfigError, match=message):
        group_runs(configs(*rows), fields)


def test_where_evaluation_and_cache_differ_the_runs_do_not():
    found = configs(*ROWS[:3])
    found["linear-3"]["evaluate"] = {"batch_size": 3}
    found["linear-4"]["data"] = {"cache_dir": "x"}
    assert len(group_runs(found, ["schedule.name"])) == 1


def test_a_field_that_an_older_run_lacks_had_its_default():
    found = configs(*ROWS[:3])
    found["linear-3"]["train"] = {"steps_per_call": 1}
    assert len(group_runs(found, ["schedule.name"])) == 1


def test_seeds_speak_for_their_group():
    groups = group_runs(configs(*ROWS), ["schedule.name"])
    rng = np.random.default_rng(0)
    means = {name: {"total": rng.normal()} for g in groups for name in g.seeds.values()}
    found = over_seeds(groups, means)
    values = [means[f"cosine-{seed}"]["total"] for seed in (3, 4, 5)]
    row = found.between["schedule.name=cosine", "total"]
    assert row.mean == pytest.approx(np.mean(values)) and row.num_seeds == 3
    ((gap, adjusted),) = found.gaps.values()
    assert gap.paired and adjusted == gap.p_value
    assert gap.mean == pytest.approx(
        np.mean(values) - np.mean([means[f"linear-{s}"]["total"] for s in (3, 4, 5)])
    )
