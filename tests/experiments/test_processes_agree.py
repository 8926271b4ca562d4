"""Two processes that have other code or see other folders end before the first step, with one line."""

import shutil

import pytest

from tests.experiments.conftest import ends

SMALL = {"train.num_samples": 0, "train.num_steps": 24}


@pytest.fixture
def cwds(tmp_path, repository):
    """Two folders to start from, each with configs/: a relative path names another folder in each."""
    folders = [tmp_path / "node0", tmp_path / "node1"]
    for folder in folders:
        shutil.copytree(repository / "configs", folder / "configs")
    return folders


def lines_of_both(processes, timeout):
    """The last lines of both; both must end with exit code 2."""
    outcomes = ends(processes, timeout)
    assert [code for code, _ in outcomes] == [2, 2], outcomes
    return [errors.splitlines()[-1] for _, errors in outcomes]


def without_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def without_the_newest(folder):
    shutil.rmtree(folder / "checkpoints" / "12")


def without_an_older_one(folder):
    shutil.rmtree(folder / "checkpoints" / "9")


def with_another_config(folder):
    (folder / "config.json").write_text("{}")


VIEWS = {
    without_checkpoints: ("newest checkpoint: process 0 has '12', process 1 has 'none'",),
    without_the_newest: ("newest checkpoint: process 0 has '12', process 1 has '9'",),
    without_an_older_one: ("checkpoints: process 0 has '[6, 9, 12]', process 1 has '[6, 12]'",),
    with_another_config: ("config.json: process 0 has", "process 1 has"),
}


@pytest.mark.parametrize("spoil", VIEWS, ids=lambda spoil: spoil.__name__)
def test_processes_that_see_other_contents_of_the_folder_stop(start_pair, finished, cwds, spoil):
    """A disk that is not mounted on one machine, or a listing that is late there."""
    for cwd in cwds:
        shutil.copytree(finished[0], cwd / "run")
    spoil(cwds[1] / "run")
    for line in lines_of_both(start_pair("run", SMALL, cwds), 30):
        assert all(part in line for part in ("--workdir=run", *VIEWS[spoil])), line


def test_processes_of_other_code_stop(start_pair, cwds, tmp_path):
    with (cwds[1] / "configs" / "base.py").open("a") as file:
        file.write("# a change that was not copied\n")
    for line in lines_of_both(start_pair(tmp_path / "run", SMALL, cwds), 30):
        assert line.startswith("error: code: process 0 has 'SHA-256 ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_in_two_empty_folders_of_one_name_stop(start_pair, cwds):
    """Both look alike until one writes into its own."""
    for line in lines_of_both(start_pair("run", SMALL, cwds), 90):
        assert f"process 1 another one, {cwds[1] / 'run'}" in line
    assert not list((cwds[0] / "run").glob(".shared*"))
