"""Evaluating a run from the command line: any T, split, device count; and every refusal."""

import json
import shutil

import pytest


def error(done, code):
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def workdir(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def read(workdir, pattern):
    (path,) = (workdir / "evaluations").glob(pattern)
    return json.loads(path.read_text())


def test_other_timesteps_split_and_device_count(workdir, launch):
    flags = ["--split=validation", "--timesteps=10", "--randomisations=1", "--step=best"]
    done = launch("evaluate", workdir, *flags, devices=8)
    assert done.returncode == 0, done.stderr
    assert "not estimated" in done.stdout and "T_eval = 10" in done.stdout
    facts = read(workdir, "validation-*-T10-*.json")
    assert facts["num_images"] == 100 and facts["checkpoint_step"] in (6, 9, 12)
    assert facts["bits_per_dim"]["total"]["monte_carlo_error"] is None


def test_eight_devices_give_what_one_gave(workdir, launch):
    """Within float32's rounding: the noise and the images are the same."""
    before = read(workdir, "test-*.json")["bits_per_dim"]
    assert launch("evaluate", workdir, devices=8).returncode == 0
    after = read(workdir, "test-*.json")["bits_per_dim"]
    for name, row in before.items():
        assert abs(after[name]["mean"] - row["mean"]) < 1e-5


MISTAKES = {
    "split": (["--split=dev"], 3, ["split='dev'", "validation"]),
    "step": (["--step=7"], 5, ["step=7", "12"]),
    "step name": (["--step=newest"], 2, ["--step=newest", "best"]),
    "timesteps": (["--timesteps=-1"], 2, ["--timesteps=-1"]),
    "too many timesteps": (["--timesteps=10000000"], 2, ["--timesteps=10000000", "1000000"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(workdir, launch, case):
    flags, code, parts = MISTAKES[case]
    line = error(launch("evaluate", workdir, *flags), code)
    assert all(part in line for part in parts), line
    assert len(list((workdir / "evaluations").iterdir())) == 2


def test_folders_that_hold_no_run(launch, tmp_path):
    assert "is no folder" in error(launch("evaluate", tmp_path / "none"), 5)
    assert "holds no run" in error(launch("evaluate", tmp_path), 5)


def test_a_run_without_a_checkpoint(workdir, launch):
    shutil.rmtree(workdir / "checkpoints")
    assert "no checkpoint" in error(launch("evaluate", workdir), 5)
