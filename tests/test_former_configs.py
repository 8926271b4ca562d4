"""Configurations under their former names are what they were.

tests/runs/former_configs.json holds every field of every file as it was before files became variants:
the defaults, and for each value of --config what differed from them.
"""

import json
from pathlib import Path

import pytest

from experiments.cli.former_configs import FORMER, present_words
from experiments.cli.parsing import load_config
from vdm.runs.config import as_tuples, flatten

STORED = as_tuples(json.loads((Path(__file__).parent / "runs" / "former_configs.json").read_text()))


def before(name, **others):
    return STORED["defaults"] | STORED["configs"][name] | others


@pytest.mark.parametrize("name", STORED["configs"])
def test_gives_what_the_file_gave(name, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    assert flatten(load_config(name)) == before(name)
    assert capsys.readouterr().err.count(f"{name} is now {FORMER.get(name)}") == (name in FORMER)


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
