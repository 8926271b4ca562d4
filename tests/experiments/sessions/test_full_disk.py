"""Fault: a disk that fills while a run saves. A tmpfs is mounted as the work folder."""

import json
import os
import signal
import subprocess
import time

import pytest

from experiments.sessions import saving
from tests.experiments.conftest import repeatable
from vdm.errors import DiskError

SMALL = {
    "denoiser.mlp.width": 32,
    "train.num_steps": 60,
    "train.log_every_steps": 20,
    "train.evaluate_every_steps": 0,
    "train.save_every_steps": 10,
    "train.num_samples": 0,
    "optimizer.warmup_steps": 1,
    "train.writers": "json_lines",
    "evaluate.randomisations": 1,
}


def checkpoints(workdir):
    return sorted(os.listdir(workdir / "checkpoints"))


def saves(lines):
    """The steps whose saves failed, in the order of their lines."""
    return [int(line.split("saving step ")[1].split()[0]) for line in lines]


def exact(workdir):
    """The hashes of the last checkpoint, and every logged number but those of clocks."""
    record = json.loads((workdir / "checkpoints" / "60" / "record" / "metadata").read_text())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    numbers = [repeatable(line) for line in lines]
    return record["content"]["arrays"], numbers


class Store:
    """Stand-in for the checkpoints that a `Saver` asks."""

    def __init__(self, step):
        self.step = step

    def latest_step(self):
        return self.step

    def remaining(self):
        return f"step {self.step}"


def fails():
    raise DiskError("full")


def test_a_failed_save_is_passed_over(capsys):
    """Two failures, a success and two failures: one line each, with the step of the next save."""
    saver = saving.Saver(Store(10), 10, 65)
    for step in (20, 30):
        saver.save(step, fails, stopping=False)
    saver.save(40, lambda: None, stopping=False)
    for step in (50, 60):
        saver.save(step, fails, stopping=False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("WARNING: full") for line in lines)
    assert "step 10" in lines[0] and "step 30" in lines[0] and "step 65" in lines[3]


@pytest.mark.parametrize(
    ("older", "step", "stopping"), [(None, 20, False), (10, 60, False), (10, 20, True)]
)
def test_a_save_that_may_not_fail(older, step, stopping):
    """No older step; the last save; a save because of a signal."""
    with pytest.raises(DiskError, match="full"):
        saving.Saver(Store(older), 10, 60).save(step, fails, stopping)


def test_the_third_failure_in_a_row_ends_the_training(capsys):
    saver = saving.Saver(Store(10), 10, 100)
    saver.save(20, fails, stopping=False)
    saver.save(30, fails, stopping=False)
    with pytest.raises(DiskError, match="3 times in a row; step 10"):
        saver.save(40, fails, stopping=False)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_failed_save_leaves_nothing_and_can_be_made_up_for(tmpfs):
    """Fault: a real full disk, within the write and seen before it. Nothing claims an older step."""
    import jax.numpy as jnp
    import numpy as np

    from vdm.training.checkpoint import Checkpoints

    folder = tmpfs("1100k")
    store = Checkpoints(folder / "checkpoints")
    # Random bits do not compress: 256 KiB a step.
    bits = np.random.default_rng(0).integers(0, 2**32, 2**16, dtype=np.uint32)
    trees = {"a": jnp.asarray(bits)}, {"b": jnp.zeros(2)}
    for free in (200, 264):
        with (folder / "filler").open("wb") as file:
            file.write(bytes(os.statvfs(folder).f_bavail * 4096 - free * 1024))
        with pytest.raises(DiskError, match="saving step 1 failed"):
            store.save(1, *trees, {})
        assert os.listdir(folder / "checkpoints") == [] and store.latest_step() is None
        assert "no step" in store.remaining()
        (folder / "filler").unlink()
    store.save(2, *trees, {})
    assert store.steps() == [2]
    store.close()


@pytest.mark.slow
def test_training_ends_with_6_after_three_failures_and_is_resumed(tmpfs, launch):
    """Room for nearly two steps: three saves fail, each in one line, the last with 6; then room."""
    # Enough for the arrays of a second step, so that Orbax and its threads meet the full disk.
    workdir = tmpfs("900k") / "run"
    done = launch("train", workdir, overrides=SMALL)
    assert done.returncode == 6, done.stderr
    *warnings, error = done.stderr.splitlines()
    assert saves([*warnings, error]) == [20, 30, 40]
    assert all(line.startswith("WARNING: ") for line in warnings)
    assert error.startswith("error: ") and "step 10" in error
    assert checkpoints(workdir) == ["10"]
    tmpfs("20m")
    done = launch("train", workdir, overrides=SMALL)
    assert done.returncode == 0 and "at step 10" in done.stdout, done.stderr
    assert checkpoints(workdir) == ["40", "50", "60"]


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while(tmpfs, start_training):
    """Somebody else's file fills it: a warning; the file is gone: saved; full at SIGTERM: 6."""
    folder = tmpfs("4m")
    workdir = folder / "run"
    long = {"train.num_steps": 1_000_000, "train.save_every_steps": 500, "train.log_every_steps": 0}
    process = start_training(workdir, {**SMALL, **long})

    def wait(condition):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline and process.poll() is None, process.read()
            time.sleep(0.01)

    def fill():
        # Until nothing more fits, whatever the run removes or writes meanwhile.
        with (folder / "filler").open("ab") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError:
                pass

    wait(lambda: (workdir / "checkpoints" / "500").is_dir())
    fill()
    wait(lambda: "saving step" in process.read())
    (folder / "filler").unlink()
    failed = saves(line for line in process.read().splitlines() if "saving step" in line)
    wait(lambda: any(n.isdigit() and int(n) > failed[0] for n in checkpoints(workdir)))
    fill()
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 6 and "Traceback" not in output, output
    assert all(name.isdigit() for name in checkpoints(workdir))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_full_disks_of_ten_sizes(tmpfs, launch, tmp_path):
    """Whatever was saved is right: enlarged and resumed, the run equals one that had room."""
    whole = tmp_path / "whole"
    assert launch("train", whole, overrides=SMALL).returncode == 0
    ended = []
    for number, size in enumerate(range(300, 1300, 100)):
        folder = tmpfs(f"{size}k")
        workdir = folder / str(number)
        done = launch("train", workdir, overrides=SMALL)
        assert done.returncode in (0, 2, 6) and "Traceback" not in done.stderr, done.stderr
        assert all(line.startswith(("WARNING: ", "error: ")) for line in done.stderr.splitlines())
        if (workdir / "checkpoints").is_dir():
            assert all(name.isdigit() for name in checkpoints(workdir)), size
        tmpfs("30m")
        assert launch("train", workdir, overrides=SMALL).returncode == 0, size
        assert exact(workdir) == exact(whole), size
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        ended.append(done.returncode)
    assert 6 in ended
