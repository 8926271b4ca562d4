"""Configurations under their former names are what they were.

tests/runs/former_configs.json holds every field of every file as it was before files became variants:
the defaults, and for each value of --config what differed from them.
"""

import json
from pathlib import Path

import pytest

from experiments.cli.former_configs import FORMER, present_words
from experiments.cli.parsing import check_field, load_config
from experiments.cli.words import Word
from tests.nested import nested
from vdm.errors import ConfigError
from vdm.runs import build
from vdm.runs.completion import complete, unknown_fields
from vdm.runs.config import as_tuples, flatten
from vdm.runs.config_identity import (
    ADDED_FIELDS,
    config_changes,
    config_hash,
    earlier_config_hash,
    keep_earlier_defaults,
)
from vdm.runs.defaults import default_config
from vdm.runs.folder import check_changeable
from vdm.runs.former_fields import FORMER_NAMES, former_layout, upgrade

STORED = as_tuples(json.loads((Path(__file__).parent / "runs" / "former_configs.json").read_text()))


def before(name, **others):
    """Return the configuration as it was, nested."""
    return nested(STORED["defaults"] | STORED["configs"][name] | others)


def schedules_of(name):
    """The study is of any schedule that is put in; every other configuration is of its own."""
    studied = ("linear", "cosine", "monotone_network", "piecewise_linear", "rational_spline")
    studied += ("pixel_polynomial",)
    return [{"schedule.name": s} for s in studied] if name.endswith("_study.py") else [{}]


@pytest.mark.parametrize("name", STORED["configs"])
def test_gives_what_the_file_gave(name, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    for others in schedules_of(name):
        now = load_config(name)
        now.update_from_flattened_dict(others)
        saved = before(name, **others)
        assert config_changes(saved, now.to_dict()) == {}
        # Stored evaluations of a run that the former revision saved stay those of its run.
        resumed = keep_earlier_defaults(saved, now.to_dict())
        for computed in (config_hash, earlier_config_hash):
            assert computed(resumed) == computed(upgrade(saved)) == computed(saved)
    assert capsys.readouterr().err.count(f"{name} is now {FORMER.get(name)}") == (
        len(schedules_of(name)) if name in FORMER else 0
    )


@pytest.mark.parametrize(
    "words", [["--config=configs/imagenet64.py"], ["--config", "configs/imagenet64.py"]]
)
def test_the_command_line_goes_on_with_the_present_name(words, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert "configs/imagenet.py:64" in "=".join(present_words(["train", *words, "--config.seed=3"]))


def test_a_file_of_one_s_own_under_a_former_name_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "imagenet64.py").touch()
    words = ["train", "--config=configs/imagenet64.py"]
    assert present_words(words) == words


def test_the_former_layout_is_what_the_former_revision_had():
    """Every field and default but of fields added since, for a new configuration as for a saved one."""
    defaults = flatten(default_config())
    layout = former_layout(default_config(), defaults)
    added = layout.keys() - STORED["defaults"].keys()
    assert added <= ADDED_FIELDS
    assert {name: layout[name] for name in layout if name not in added} == STORED["defaults"]
    saved = before("configs/digits_study.py")
    assert former_layout(upgrade(saved), defaults) == flatten(saved)


def test_former_fields_are_told_their_present_names(repository, monkeypatch):
    monkeypatch.chdir(repository)
    config = load_config("configs/digits.py")
    for former, present in FORMER_NAMES.items():
        with pytest.raises(ConfigError, match=f"{former}=1: .* --config.{present}=1"):
            check_field(config, Word(f"config.{former}", "1"))
        with pytest.raises(ConfigError, match=f"allow_change={former}: .* {present}"):
            check_changeable([former])
        *groups, leaf = former.split(".")
        nested = {leaf: 1}
        for group in reversed(groups):
            nested = {group: nested}
        with pytest.raises(ConfigError, match=f"config.{former}=1: .* config.{present}"):
            build(nested)


def test_only_the_chosen_schedule_s_value_counts():
    groups = {"rational_spline": {"learned_endpoints": False, "num_knots": 4}}
    for chosen in ("rational_spline", "monotone_network"):
        upgraded = upgrade({"schedule": {"name": chosen, **groups}})["schedule"]
        assert upgraded.get("learned_endpoints", True) == (chosen != "rational_spline")
        assert upgraded["rational_spline"]["num_knots"] == 4


def test_a_new_variant_s_options_need_no_line_in_the_defaults():
    """A run of a schedule or family that is added in one file opens, and is built from Python."""
    for part, key in (("schedule", "name"), ("model", "family")):
        config = {part: {key: "added", "added": {"exponent": 2.0}}}
        assert complete(config)[part]["added"] == {"exponent": 2.0}
        assert list(unknown_fields(config)) == []
        with pytest.raises(ConfigError, match=f"config.{part}.added=.*no such field"):
            complete({part: {"added": {"exponent": 2.0}}})
