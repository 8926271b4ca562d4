"""Fault: a file or folder that a run will write cannot be written. Found before step 1, by its path."""

import os
import shutil
import subprocess

import pytest

from vdm.errors import ConfigError, DiskError
from vdm.runs.defaults import default_config
from vdm.runs.folder import locked
from vdm.runs.outputs import check_outputs

CONFIG = default_config()
CONFIG["train"]["num_samples"] = 4
FILES = (
    "config.json",
    "metrics.jsonl",
    "evaluations/final.json",
    "evaluations/final.npz",
    "skipped_steps.jsonl",
)
FOLDERS = ("checkpoints", "tensorboard", "samples", "evaluations")


@pytest.fixture
def workdir(tmp_path):
    """A work folder in which a run has written everything."""
    for name in FOLDERS:
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in FILES:
        (tmp_path / "run" / name).write_text(name)
    return tmp_path / "run"


def check(workdir):
    check_outputs(workdir, CONFIG, [workdir / name for name in FILES[2:4]])


def state(folder):
    """Every path with its time of change and content."""
    paths = sorted(folder.rglob("*"))
    return [(p, p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in (folder, *paths)]


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_trial_leaves_nothing(workdir, tmp_path):
    before = state(tmp_path)
    check(workdir)
    check(tmp_path / "another" / "folder")
    assert state(tmp_path) == before


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("make", [lambda p: p.write_text(""), lambda p: p.symlink_to("nowhere")])
def test_a_file_in_the_place_of_a_folder(workdir, name, make):
    """And a link that leads nowhere."""
    remove(workdir / name)
    make(workdir / name)
    with pytest.raises(ConfigError, match=f"{workdir / name} cannot be written"):
        check(workdir)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_no_file_in_the_place_of_a_file(workdir, name, make):
    """A folder; a named pipe, which would be waited for."""
    remove(workdir / name)
    make(workdir / name)
    with pytest.raises(ConfigError, match=f"{workdir / name} cannot be written"):
        check(workdir)


@pytest.mark.parametrize("name", ["", *FILES, *FOLDERS])
def test_what_is_immutable(workdir, name):
    """Fault: chattr +i, which stops root too."""
    path = workdir / name
    try:
        done = subprocess.run(["chattr", "+i", path], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the command chattr")
    if done.returncode:
        pytest.skip(f"chattr is not permitted here: {done.stderr.strip()}")
    try:
        with pytest.raises(ConfigError, match=f"{path} cannot be written"):
            check(workdir)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_a_disk_that_is_read_only(tmpfs):
    """A new folder there, and one that a run was written to."""
    disk = tmpfs("1m")
    (disk / "run" / "checkpoints").mkdir(parents=True)
    tmpfs("1m,ro")
    for name in ("run", "new"):
        with pytest.raises(ConfigError, match="Read-only file system"):
            check(disk / name)


def test_one_folder_on_a_disk_of_its_own(tmpfs, workdir):
    """Such as checkpoints/ linked to another disk, which is full."""
    disk = tmpfs("64k")
    remove(workdir / "checkpoints")
    (workdir / "checkpoints").symlink_to(disk)
    check(workdir)
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(DiskError, match=f"{workdir / 'checkpoints'}: No space left"):
        check(workdir)
    assert os.listdir(disk) == ["filler"]


def test_a_full_disk_has_no_room_for_the_folder(tmpfs):
    """Fault: not one file more can be made."""
    disk = tmpfs("64k,nr_inodes=2")
    (disk / "file").write_text("")
    with pytest.raises(DiskError, match="No space left"), locked(disk / "run"):
        pass


def test_a_name_that_is_not_utf8(tmp_path):
    workdir = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"caf\\xe9.*UTF-8"):
        check(workdir)


def test_what_the_run_does_not_write_is_not_tried(workdir):
    for name in ("tensorboard", "samples", "metrics.jsonl"):
        remove(workdir / name)
    for name in ("tensorboard", "samples"):
        (workdir / name).write_text("")
    train = {**CONFIG["train"], "num_samples": 0, "writers": ()}
    check_outputs(workdir, {**CONFIG, "train": train})
