"""Records and configurations of earlier revisions mean what they meant."""

import pytest

from vdm.runs.config_identity import EARLIER_DEFAULTS, config_changes, keep_earlier_defaults
from vdm.runs.defaults import default_config
from vdm.runs.evaluations import present_form


def with_repeats(repeats):
    config = default_config()
    return {**config, "evaluate": {**config["evaluate"], "repeats": repeats}}


NEW = default_config()["evaluate"]["repeats"]
OLD = EARLIER_DEFAULTS["evaluate.repeats"]
CASES = {
    "nobody chose": (OLD, NEW, (), OLD),
    "asked for with --allow_change": (OLD, NEW, ("evaluate.repeats",), NEW),
    "another value now": (OLD, 3, (), 3),
    "another value then": (5, NEW, (), NEW),
    "of this revision": (NEW, NEW, (), NEW),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_with_the_defaults_it_began_with(case):
    saved, now, allowed, expected = CASES[case]
    kept = keep_earlier_defaults(with_repeats(saved), with_repeats(now), allowed)
    assert kept == with_repeats(expected)
    assert bool(config_changes(with_repeats(saved), kept)) == (saved != expected)


def row(name, mean):
    return {"row": name, "estimate": {"mean": mean}}


TERM = {"prior_matching": {"mean": 1.0}}
RECORDS = {
    "of evaluate": (
        {"bound": "negative ELBO, T = 10", "timesteps_eval": 10, "bits_per_dim": TERM},
        ("elbo", TERM),
    ),
    "of a sum of terms": (
        {"bound": "dense", "rows": [row("T = 4", 3.0)], "terms": TERM},
        ("dense", {**TERM, "total": {"mean": 3.0}}),
    ),
    "of several rows": (
        {"bound": "iwae", "rows": [row("K = 1", 3.0), row("K = 2", 2.0)], "terms": {}},
        ("iwae", {"K = 1": {"mean": 3.0}, "K = 2": {"mean": 2.0}}),
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_records_of_both_earlier_formats_are_read(case):
    record, (bound, bits) = RECORDS[case]
    found = present_form(record)
    assert (found["bound"], found["bits_per_dim"]) == (bound, bits)
    assert present_form(found) == found
