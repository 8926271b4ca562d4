"""Work folders from someone else: evaluating one writes into it and into the user's cache alone."""

import json
import shutil

import pytest

from vdm import data, runs
from vdm.data.cache.content import content_hash
from vdm.errors import CheckpointError, DataError
from vdm.runs.folder import read_identity


@pytest.fixture
def downloaded(tiny_run, tmp_path, monkeypatch):
    """`downloaded(edit)` -> a copy of the tiny run, config.json edited; $VDM_DATA_DIR is new."""
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path / "own"))
    folder = shutil.copytree(tiny_run[0], tmp_path / "run")

    def edit(change=lambda identity: None):
        identity = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        change(identity)
        (folder / "config.json").write_text(json.dumps(identity), encoding="utf-8")
        return folder

    return edit


def set_cache(path):
    return lambda identity: identity["config"]["data"].update(cache_dir=str(path))


def test_a_cache_named_in_a_work_folder_is_not_written(downloaded, tmp_path):
    run = runs.open(downloaded(set_cache(tmp_path / "outside")))
    run.evaluate(write=True)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "own"}
    assert (tmp_path / "own" / run.spec.content_hash / "train.npy").is_file()


def test_a_cache_named_in_a_work_folder_is_read(downloaded, tiny_run, tmp_path):
    run = runs.open(downloaded(set_cache(tiny_run[1])))
    assert run.data.spec == run.spec
    assert not (tmp_path / "own").exists()


def test_a_cache_below_an_unknown_home_is_passed_over(downloaded, tmp_path):
    run = runs.open(downloaded(set_cache("~no-such-user/data")))
    assert run.data.spec == run.spec and (tmp_path / "own").is_dir()


def test_a_cache_that_the_user_names_is_written(downloaded, tmp_path):
    run = runs.open(downloaded(set_cache(tmp_path / "outside")), cache_dir=tmp_path / "mine")
    assert run.data.spec == run.spec
    assert {path.name for path in tmp_path.iterdir()} == {"run", "mine"}


@pytest.mark.parametrize(
    "name",
    ["evaluations", "samples", "checkpoints/9", "metrics.jsonl", "skipped_steps.jsonl", ".lock"],
)
@pytest.mark.parametrize("exists", [True, False])
def test_links_that_lead_out_of_a_work_folder_are_refused(downloaded, tmp_path, name, exists):
    link = downloaded() / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "outside")
    if exists:
        (tmp_path / "outside").mkdir()
    with pytest.raises(CheckpointError, match=rf"{link}: is a link to {tmp_path}/outside"):
        read_identity(tmp_path / "run")


def test_other_links_are_followed(downloaded, tmp_path):
    folder = downloaded()
    (tmp_path / "elsewhere").write_text("mine", encoding="utf-8")
    (folder / "notes.txt").symlink_to(tmp_path / "elsewhere")
    (folder / "evaluations" / "latest").symlink_to("../config.json")
    (tmp_path / "link").symlink_to(folder)
    assert read_identity(tmp_path / "link") is not None


def test_a_split_that_is_a_path_names_no_file(downloaded, tmp_path):
    run = runs.open(downloaded(lambda i: i["config"]["evaluate"].update(split="../../test")))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError):
        run.evaluate(write=True)
    new = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "own") for path in new)


@pytest.mark.parametrize("digest", ["../../secret", "/secret", "", 3, None])
def test_a_content_hash_that_is_no_hash_is_refused(downloaded, tmp_path, digest):
    with pytest.raises(DataError, match="is no SHA-256"):
        data.open_content(digest, tmp_path)


@pytest.mark.parametrize("name", ["../../x", "a/b", "/x", "x.y"])
def test_prepared_data_whose_split_is_a_path_are_refused(tmp_path, name):
    """The name would become that of a record in the work folder."""
    arrays = {"train": data.load("digits", {}, tmp_path).split("train")[:3]}
    digest = content_hash({name: arrays["train"]}, 17)
    ours = data.load("digits", {}, tmp_path).spec.content_hash
    folder = shutil.copytree(tmp_path / ours, tmp_path / digest)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = {**manifest["splits"]["train"], "shape": [3, 8, 8, 1]}
    manifest |= {"content_hash": digest, "splits": {name: entry}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match="names split"):
        data.open_content(digest, tmp_path)
