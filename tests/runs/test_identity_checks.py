"""Fault: a config.json of wrong shape. It is refused by the name of its first wrong field, with 5."""

import copy
import json
import re

import pytest

from vdm.errors import CheckpointError
from vdm.runs.defaults import default_config
from vdm.runs.folder import read_identity
from vdm.runs.identity_checks import FIRST_FIELDS

DATA = {"name": "digits", "shape": [8, 8, 1], "num_levels": 17, "content_hash": "0"}
IDENTITY = {"config": default_config(), "data": {**DATA, "split_sizes": {"train": 4}}}

ONE_RUN = ("train", "evaluate", "sample", "breakdown", "noise_maps", "decompositions")
SEVERAL_RUNS = ("compare", "curves", "schedules")

WHOLE = {
    "empty": ("", "Expecting value"),
    "null": ("null", "None"),
    "list": ("[]", "not an object"),
    "number": ("3", "not an object"),
    "binary": ("\xff\x00", "config.json"),
    "bottomless": ("[" * 100_000 + "]" * 100_000, "recursion"),
    "empty sections": ('{"config": {}, "data": {}}', "config.seed is missing"),
    "sections are lists": ('{"config": [], "data": []}', r"config is \(\), not a group"),
    "no data": ('{"config": {}}', "data is missing"),
}


@pytest.fixture
def refused(tmp_path):
    """`refused(text)` -> the message with which a config.json is refused."""

    def refuse(text):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(CheckpointError) as raised:
            read_identity(tmp_path)
        assert str(tmp_path / "config.json") in str(raised.value)
        return str(raised.value)

    return refuse


@pytest.mark.parametrize("case", WHOLE)
def test_a_file_of_another_kind(refused, case):
    text, reason = WHOLE[case]
    assert re.search(reason, refused(text))


def paths(group, prefix=()):
    """The path of every group and field."""
    for name, value in group.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, name))


def changed(path, *value):
    """IDENTITY with another value at a path, or without it."""
    identity = copy.deepcopy(IDENTITY)
    group = identity
    for name in path[:-1]:
        group = group[name]
    group.pop(path[-1])
    if value:
        group[path[-1]] = value[0]
    return identity


REQUIRED = [
    ("config",),
    ("data",),
    *[("config", section) for section in FIRST_FIELDS],
    *[("config", section, name) for section, names in FIRST_FIELDS.items() for name in names],
    *[("data", name) for name in IDENTITY["data"]],
]


def test_what_every_revision_wrote_is_missed(refused):
    for path in REQUIRED:
        assert f"{'.'.join(path)} is missing" in refused(json.dumps(changed(path)))


@pytest.mark.parametrize("value", [[], {}, [{}], "text", True, 1.5], ids=repr)
def test_another_type_is_named_or_fits(tmp_path, value):
    """At every field in turn: never another error than the one for a damaged file."""
    refusals = 0
    for path in paths(IDENTITY):
        (tmp_path / "config.json").write_text(json.dumps(changed(path, value)))
        try:
            read_identity(tmp_path)
        except CheckpointError as error:
            field = ".".join(path)
            assert field in str(error) or value == {}, (field, error)
            refusals += 1
    assert refusals > 100


def test_an_earlier_revision_lacks_later_fields(tmp_path):
    identity = copy.deepcopy(IDENTITY)
    for section in ("context", "devices"):
        del identity["config"][section]
    del identity["config"]["train"]["num_microbatches"]
    (tmp_path / "config.json").write_text(json.dumps(identity))
    assert read_identity(tmp_path)["config"]["train"]["num_steps"] == 10_000


@pytest.mark.slow
def test_every_launcher_ends_with_5(fork_python, tmp_path):
    """All that open a run, in one line that names the file."""
    (tmp_path / "config.json").write_text('{"config": {}, "data": {}}')
    out, given = f"--out={tmp_path / 'out'}", f"--workdirs={tmp_path},{tmp_path}"
    launchers = {name: [f"--workdir={tmp_path}"] for name in ONE_RUN}
    launchers |= {name: [given, out] for name in SEVERAL_RUNS}
    launchers["train"].append("--config=configs/digits.py")
    launchers["results"] = [given]
    for name, words in launchers.items():
        done = fork_python(["-m", f"experiments.{name}", *words], devices=1, check=False)
        assert done.returncode == 5, (name, done.stdout, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and str(tmp_path / "config.json") in line, line
