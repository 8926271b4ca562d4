"""Properties over drawn inputs: configurations, grids and records of evaluations.

The profile is in tests/conftest.py: few examples, always the same ones; .ci/nightly draws many.
"""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from ml_collections import config_dict

from experiments.sweeps import grid
from tests.nested import nested
from vdm.errors import ConfigError
from vdm.models import make_family
from vdm.runs import evaluations
from vdm.runs.checks import check
from vdm.runs.completion import complete
from vdm.runs.config import as_tuples, flatten
from vdm.runs.config_identity import config_changes, config_hash, replaced
from vdm.runs.defaults import KINDS, default_config
from vdm.runs.former_fields import ONCE_PER_CHOICE, RENAMED, former_layout, upgrade
from vdm.types import DataSpec

DEFAULTS = flatten(default_config())
SPEC = DataSpec("drawn", (8, 8, 1), 17, {"train": 10, "validation": 5, "test": 5}, "0" * 64)
WORDS = sorted({value for value in DEFAULTS.values() if isinstance(value, str) and value})

# No sizes that only memory limits: a network may be as wide as its user likes.
VALUES = {
    bool: st.booleans(),
    int: st.integers(-3, 300),
    float: st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 300)),
    str: st.one_of(st.sampled_from(WORDS), st.text(max_size=12)),
    tuple: st.lists(st.one_of(st.integers(-3, 300), st.floats(-9, 9)), max_size=4).map(tuple),
}


def kind_of(field):
    return KINDS[field] if DEFAULTS[field] is None else type(DEFAULTS[field])


@st.composite
def overrides(draw):
    """{dotted field: another value of its type}, of one to three fields."""
    fields = draw(st.lists(st.sampled_from(sorted(DEFAULTS)), min_size=1, max_size=3, unique=True))
    return {field: draw(VALUES[kind_of(field)]) for field in fields}


def overridden(fields):
    config = default_config()
    for field, value in fields.items():
        config = replaced(config, field.split("."), value)
    return config


@given(overrides())
def test_a_value_of_a_field_s_type_is_taken_or_refused_by_name(fields):
    """No other exception: whatever a field takes must be checked before it is used."""
    try:
        config = complete(overridden(fields))
        check(config)
        make_family(SPEC, config)
    except ConfigError as error:
        assert "\n" not in str(error)


@given(overrides())
def test_a_configuration_comes_back_from_json(fields):
    config = overridden(fields)
    assume(not any(isinstance(value, float) and math.isnan(value) for value in fields.values()))
    back = as_tuples(json.loads(json.dumps(config)))
    assert back == as_tuples(config)
    assert config_changes(config, back) == {} and config_hash(config) == config_hash(back)


@st.composite
def former_configs(draw):
    """A configuration under former names, some of which belong to choices that are not made."""
    config = default_config()
    config["schedule"]["name"] = draw(
        st.sampled_from(ONCE_PER_CHOICE["schedule.learned_endpoints"])
    )
    config["data"]["name"] = draw(st.sampled_from(["digits", "folder", "tfds:mnist", "celeb_a"]))
    former = former_layout(config, DEFAULTS)
    for field in draw(st.lists(st.sampled_from(sorted(former)), max_size=3)):
        if field not in ("schedule.name", "data.name"):
            former[field] = draw(st.integers(0, 9))
    return nested(former)


@given(former_configs())
def test_upgrading_is_done_once_and_can_be_undone(config):
    once = upgrade(config)
    assert upgrade(once) == once
    assert not RENAMED.keys() & flatten(once).keys()
    assert former_layout(once, DEFAULTS) == former_layout(config, DEFAULTS)


FIELDS = {"seed": st.integers(0, 99), "train.num_steps": st.integers(1, 9)}
FIELDS |= {"schedule.name": st.sampled_from(["linear", "cosine", "edm"])}
BLANKS = st.sampled_from(["", " ", "  "])


@st.composite
def axes(draw):
    chosen = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, unique=True))
    values = {f: st.lists(FIELDS[f].map(str), min_size=1, max_size=3, unique=True) for f in chosen}
    return {field: tuple(draw(values[field])) for field in chosen}


@given(axes(), BLANKS)
def test_a_grid_is_what_its_text_says(drawn, blank):
    text = f"{blank};{blank}".join(
        f"{field}{blank}={blank}" + f"{blank},".join(values) for field, values in drawn.items()
    )
    assert grid.read_axes(text) == drawn
    runs = grid.points(
        config_dict.ConfigDict({"seed": 0, "train": {"num_steps": 1}, **SCHEDULE}), drawn
    )
    assert len(runs) == math.prod(len(values) for values in drawn.values())
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        fields = flatten(run.config)
        assert {field: str(fields[field]) for field in drawn} == run.overrides


SCHEDULE = {"schedule": {"name": "linear"}}


@given(st.text(alphabet="ab=,; .\n0é", max_size=20))
@example("a=1;a=2")
@example("a==1")
def test_any_text_is_a_grid_or_refused(text):
    try:
        read = grid.read_axes(text)
    except ConfigError:
        return
    again = ";".join(f"{field}={','.join(values)}" for field, values in read.items())
    assert read and grid.read_axes(again) == read


HASHES = {name: 64 * str(number) for number, name in enumerate(("checkpoint", "config", "data"))}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@given(
    facts=st.dictionaries(
        st.text(max_size=9).filter(lambda name: name[:1] != "r"), JSON, max_size=4
    ),
    values=st.lists(st.floats(width=32), max_size=4),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_a_record_comes_back_and_one_damaged_byte_is_noticed(folder, facts, values, place, flip):
    shutil.rmtree(folder)
    path = folder / "test-step1.json"
    facts = {**facts, "hashes": HASHES, "split": "test"}
    evaluations.write(path, facts, {"total": np.float32(values)})
    stored = evaluations.read(path, {"hashes": HASHES, "split": "test"})
    assert not stored.fault and {name: stored.facts[name] for name in facts} == facts

    for file in (path, path.with_suffix(".npz")):
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[int(place * len(content))] ^= flip
        file.write_bytes(damaged)
        again = evaluations.read(path, {"hashes": HASHES, "split": "test"})
        # Blanks between the values of JSON mean nothing.
        assert again.fault or (file == path and again.facts == stored.facts)
        file.write_bytes(content)
