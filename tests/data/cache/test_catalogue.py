"""Prepared once, by one process at a time, and never half."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vdm.data import load
from vdm.data.cache import catalogue
from vdm.data.cache.prepared import prepare
from vdm.data.cache.preparing import check_space
from vdm.errors import DataError, DiskError

REQUEST = {"source": {"published": "mine"}, "bits": None, "num_validation": None}


def put(root, request=REQUEST, seed=0):
    """A small data set that answers a request."""
    rng = np.random.default_rng(seed)
    splits = {s: rng.integers(0, 9, (4, 2, 2, 1)) for s in ("train", "validation", "test")}
    content = prepare("mine", splits, 9, root).spec.content_hash
    facts = {"name": "mine", "notes": "a note", "content_hash": content}
    labels = {split: np.arange(4) for split in splits}
    catalogue.record(root, request, facts, {"labels": labels})
    return catalogue.find(root, request)


def test_what_was_recorded_is_found(tmp_path):
    assert catalogue.find(tmp_path, REQUEST) is None
    data = put(tmp_path)
    assert (data.spec.name, data.spec.notes) == ("mine", "a note")
    assert data.labels["test"].tolist() == [0, 1, 2, 3] and data.index == {}


def test_requests_are_told_apart(tmp_path):
    put(tmp_path)
    assert catalogue.find(tmp_path, {**REQUEST, "bits": 5}) is None


def test_a_new_record_replaces_the_old_one(tmp_path):
    first, second = put(tmp_path, seed=0), put(tmp_path, seed=1)
    assert first.spec.content_hash != second.spec.content_hash
    assert catalogue.find(tmp_path, REQUEST).spec == second.spec


def test_content_deleted_to_free_space_is_prepared_again(tmp_path):
    shutil.rmtree(tmp_path / put(tmp_path).spec.content_hash)
    assert catalogue.find(tmp_path, REQUEST) is None


DAMAGE = {
    "a cut record": lambda folder: os.truncate(folder / "record.json", 30),
    "another request": lambda folder: (folder / "record.json").write_text(
        json.dumps({**json.loads((folder / "record.json").read_text()), "request": {}})
    ),
    "a list": lambda folder: (folder / "record.json").write_text("[]"),
    "other labels": lambda folder: (
        shutil.copy(folder / "labels-test.npy", folder / "labels-train.npy")
        and np.save(folder / "labels-test.npy", np.arange(4)[::-1])
    ),
    "no labels": lambda folder: (folder / "labels-test.npy").unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(tmp_path, kind):
    put(tmp_path)
    folder = tmp_path / "catalogue" / catalogue.request_hash(REQUEST)
    DAMAGE[kind](folder)
    with pytest.raises(DataError, match=rf"{folder}: damaged .*delete this folder"):
        catalogue.find(tmp_path, REQUEST)


def test_a_scratch_folder_vanishes_whatever_happens(tmp_path):
    with pytest.raises(ZeroDivisionError), catalogue.preparing(tmp_path, REQUEST, print) as scratch:
        (scratch / "big").write_bytes(b"1")
        raise ZeroDivisionError
    assert not scratch.exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    with catalogue.preparing(tmp_path, REQUEST, print) as scratch:
        pass
    scratch.mkdir()
    (scratch / "half").write_bytes(b"1")
    with catalogue.preparing(tmp_path, REQUEST, print) as again:
        assert not scratch.exists() and list(again.iterdir()) == []


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(300):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


PREPARE = ["-m", "experiments.prepare_data"]


def start(repository, *words, code=None):
    command = [sys.executable, *(["-c", code] if code else PREPARE), *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


PAUSING = """
import sys, time, pathlib
from vdm.data import load
folder, cache, started, go_on, waits = sys.argv[1:]
def progress(what, done, total):
    pathlib.Path(started).touch()
    while not pathlib.Path(go_on).exists():
        time.sleep(0.01)
def wait(line):
    print(line, flush=True)
    pathlib.Path(waits).touch()
data = load("folder:" + folder, {}, cache, progress=progress, wait=wait)
print(data.spec.content_hash)
"""
"""Prepares until `started`, goes on once there is a file `go_on`, and says in `waits` that it waits."""


def wait_for(path):
    for _ in range(12_000):
        if path.exists():
            return
        time.sleep(0.01)
    pytest.fail(f"{path} never came")


def test_the_second_of_two_processes_waits_and_finds_the_work_done(photos, tmp_path, repository):
    cache, started, waits = (tmp_path / name for name in ("cache", "started", "waits"))
    first = start(repository, photos, cache, started, waits, tmp_path / "none", code=PAUSING)
    wait_for(started)
    second = start(repository, photos, cache, tmp_path / "second", waits, waits, code=PAUSING)
    try:
        outputs = [process.communicate(timeout=120) for process in (first, second)]
    finally:
        for process in (first, second):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (first.returncode, second.returncode) == (0, 0), outputs
    line, content = outputs[1][0].splitlines()
    assert line == (
        f"process {first.pid} on {os.uname().nodename} is preparing the same data; waiting for it"
    )
    assert content == outputs[0][0].strip()
    assert not (tmp_path / "second").exists()  # nothing was left to prepare


def test_killed_while_preparing_it_starts_again_and_finishes(photos, tmp_path, repository):
    cache, started, never = (tmp_path / name for name in ("cache", "started", "never"))
    process = start(repository, photos, cache, started, never, never, code=PAUSING)
    wait_for(started)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list((cache / "catalogue").glob(".scratch-*"))
    assert not list((cache / "catalogue").glob("*/record.json"))
    data = load(f"folder:{photos}", {}, cache)
    assert sum(data.spec.split_sizes.values()) == 300
    assert not list((cache / "catalogue").glob(".scratch-*"))


@pytest.mark.parametrize("limit", [100_000, 200_000])
def test_a_full_disk_is_a_clear_line_and_leaves_nothing(photos, tmp_path, repository, limit):
    """The system refuses to write more than so many bytes into any file: while the images are
    collected (230 kB), or not before the arrays are written, whose header comes on top."""
    cache = tmp_path / "cache"
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from absl import flags
from experiments.cli import launcher
from experiments import prepare_data
launcher.own_flags = lambda program: []
launcher.run(prepare_data.main, "", sys.argv)
"""
    process = start(repository, f"--dataset=folder:{photos}", f"--data_dir={cache}", code=code)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 6, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and str(cache) in lines[0] and "File too large" in lines[0]
    assert "Traceback" not in stderr
    left = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
    assert load(f"folder:{photos}", {}, cache).spec.shape == (16, 16, 3)


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(DiskError, match=r"new: 9313225\.75 GiB are needed and .* are free"):
        check_space(tmp_path / "new", 10**16)
    assert list(tmp_path.iterdir()) == []
    check_space(tmp_path / "new", 1)


def test_nothing_that_others_put_there_is_used_as_the_scratch_folder(tmp_path):
    """In a cache that several users write, whatever name they guess."""
    (tmp_path / "theirs").mkdir()
    with catalogue.preparing(tmp_path, REQUEST, print) as first:
        pass
    for name in (first.name, first.name.rpartition("-")[0]):
        first.with_name(name).symlink_to(tmp_path / "theirs")
    with catalogue.preparing(tmp_path, REQUEST, print) as scratch:
        (scratch / "images").write_bytes(b"1")
        assert not scratch.is_symlink() and scratch.stat().st_mode & 0o777 == 0o700
        assert list((tmp_path / "theirs").iterdir()) == []
