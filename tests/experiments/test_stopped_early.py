"""Signals before a run begins, in imports and while data are prepared: exit code 75, nothing left."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.forking import Forked
from vdm.runs import dataset
from vdm.runtime.interruption import Interrupted, raised_by_signals

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TRAIN = ["train", "--config=configs/digits.py", "--workdir={}/run"]

# Prepared data are about to get their name when a folder is synchronised for the first time.
BLOCK = """
import runpy, sys, time
from vdm.data.cache import preparing, prepared

def block(*args, **kwargs):
    print("blocked", flush=True)
    time.sleep(100)

prepared.sync_folder = block
preparing.canonical.image_hashes = block
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True)
def hang_up():
    """SIGHUP as a terminal leaves it, also when the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def wait_until(happened, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "module", "number"),
    [
        (TRAIN, "jax._src.config", signal.SIGTERM),
        (TRAIN, "jax._src.config", signal.SIGINT),
        (TRAIN, "flax.core", signal.SIGHUP),
        (["evaluate", "--workdir={}/run"], "jax._src.config", signal.SIGTERM),
        (["prepare_data", "--dataset=digits"], "numpy", signal.SIGTERM),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_a_signal_within_the_imports(tmp_path, repository, words, module, number):
    log, name = tmp_path / "stderr", f"experiments.{words[0]}"
    flags = [word.format(tmp_path) for word in words[1:]]
    env = {**os.environ, "PYTHONPATH": str(repository), "VDM_DATA_DIR": str(tmp_path / "data")}
    with log.open("w") as file:
        process = subprocess.Popen(
            # Each module is named on stderr once it is imported.
            [sys.executable, "-X", "importtime", "-m", name, *flags],
            cwd=repository,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
        wait_until(lambda: f"| {module}\n" in log.read_text().replace(" " * 2, ""), process)
        process.send_signal(number)
        assert process.wait(30) == 75, log.read_text()[-2000:]
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"error: stopped by {number.name}; nothing was written")
    assert [path.name for path in tmp_path.iterdir()] == ["stderr"]


@pytest.fixture
def blocked(repository, tmp_path):
    """`blocked(launcher, flag, ...)` -> the launcher, once it is within the preparation of data."""
    started = []

    def start(name, *flags):
        env = {**os.environ, "VDM_DATA_DIR": str(tmp_path / "cache")}
        process = Forked(["-c", BLOCK, f"experiments.{name}", *flags], env, repository)
        started.append(process)
        wait_until(lambda: "blocked" in process.read(), process)
        return process

    yield start
    for process in started:
        process.kill()


def files_in(cache):
    """Everything in the cache of prepared data but locks and empty folders."""
    return [
        p for p in cache.rglob("*") if p.suffix != ".lock" and (p.is_file() or p.name[0] == ".")
    ]


def assert_stopped(process, number, cache):
    assert files_in(cache), "the signal is to come while something unfinished is there"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75, errors
    assert errors.startswith(f"error: stopped by {number.name}; nothing was written")
    assert len(errors.splitlines()) == 1
    assert not files_in(cache)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["train", "prepare_data"])
def test_a_signal_while_data_are_prepared(blocked, tmp_path, name, number):
    flags = [word.format(tmp_path) for word in TRAIN[1:]]
    process = blocked(name, *(flags if name == "train" else ["--dataset=digits"]))
    assert_stopped(process, number, tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_a_signal_while_evaluate_prepares_data(blocked, finished, tmp_path):
    process = blocked("evaluate", f"--workdir={finished[0]}")
    assert_stopped(process, signal.SIGTERM, tmp_path / "cache")


def test_a_signal_while_a_folder_of_images_is_read(blocked, tmp_path):
    """Such sets have a scratch folder besides, under a lock."""
    (tmp_path / "images").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3))):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
    process = blocked("prepare_data", f"--dataset=folder:{tmp_path / 'images'}")
    assert_stopped(process, signal.SIGTERM, tmp_path / "cache")


def test_the_process_that_prepares_data_is_ended_gently(tmp_path, monkeypatch):
    """It removes its own scratch folder before the one that waits for it goes on to end."""
    scratch = tmp_path / "scratch"
    code = (
        "import pathlib, sys, time; from vdm.runtime.interruption import raised_by_signals\n"
        f"scratch = pathlib.Path({str(scratch)!r})\n"
        "with raised_by_signals():\n"
        "    try:\n"
        "        scratch.touch(); time.sleep(100)\n"
        "    finally:\n"
        "        scratch.unlink()\n"
    )
    monkeypatch.setattr(dataset, "has_tfds", lambda: True)
    monkeypatch.setattr(dataset, "command", lambda *args: ["python", "-c", code])

    def interrupt():
        while not scratch.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with raised_by_signals(), pytest.raises(Interrupted):
        dataset.open_dataset({"name": "tfds:nothing", "tfds": {}}, tmp_path)
    assert not scratch.exists()


def test_a_signal_within_a_destructor_is_not_lost(monkeypatch):
    """Python drops what is raised there; imports have many such callbacks."""
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: dropped.append(args.exc_type))

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with raised_by_signals(), pytest.raises(Interrupted):
        one = Dying()
        del one
        time.sleep(10)
    assert dropped == [Interrupted]


def test_only_a_second_ctrl_c_disturbs_the_clean_up():
    cleaned = []
    with raised_by_signals() as early:
        with pytest.raises(KeyboardInterrupt) as second:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGHUP)
                cleaned.append(True)
                os.kill(os.getpid(), signal.SIGINT)
    assert cleaned and early.signal == "SIGTERM" and second.type is KeyboardInterrupt
