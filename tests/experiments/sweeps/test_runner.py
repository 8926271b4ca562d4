"""Grids, their runs in processes, and the summary."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.cli.parsing import load_config
from experiments.sweeps import grid, runner
from experiments.sweeps.runner import Outcome
from vdm.errors import ConfigError

SHRUNK = {
    "denoiser.name": "mlp",
    "denoiser.mlp.width": 8,
    "denoiser.mlp.num_blocks": 1,
    "train.num_steps": 4,
    "train.batch_size": 8,
    "train.num_samples": 0,
    "evaluate.batch_size": 104,
    "evaluate.randomisations": 2,
    "evaluate.repeats": 1,
}


def test_axes_are_read_in_order():
    assert grid.read_axes("schedule.name=linear,cosine; seed=0,1") == {
        "schedule.name": ("linear", "cosine"),
        "seed": ("0", "1"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("seed", "is no axis"),
        ("seed=", "is no axis"),
        ("seed=0,,1", "is no axis"),
        ("seed=0,0", "repeats"),
        ("seed=0;seed=1", "repeats"),
    ],
)
def test_what_is_no_grid(text, message):
    with pytest.raises(ConfigError, match=message):
        grid.read_axes(text)


@pytest.fixture
def config(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return load_config("configs/digits.py")


def test_every_combination_is_a_run_of_its_own(config):
    found = grid.points(config, grid.read_axes("schedule.name=linear,cosine;seed=0,1,2"))
    assert len({point.name for point in found}) == 6
    assert found[4].config["schedule"]["name"] == "cosine" and found[4].config["seed"] == 1
    assert config.seed == 0 and config.schedule.name == "learned_linear"  # the file's stay


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed=0,1", "no such field; did you mean"),
        ("train=0", "a group of fields"),
        ("seed=0,one", "seed=one: expected int"),
        ("train.writers=json_lines", "expected tuple"),
    ],
)
def test_fields_and_values_are_checked_before_anything_runs(config, text, message):
    with pytest.raises(ConfigError, match=message):
        grid.points(config, grid.read_axes(text))


def test_seeds_are_averaged_with_student_s_interval():
    outcomes = [
        Outcome(f"{n}{s}", {"schedule.name": n, "seed": str(s)}, "finished", "", {"total": v}, 0.1)
        for n, values in {"a": (1.0, 2.0, 3.0), "b": (4.0,)}.items()
        for s, v in enumerate(values)
    ]
    table = runner.over_seeds(outcomes)
    (name, count, mean, interval), last = table.rows
    assert (name, count, mean) == ("a", 3, 2.0)
    assert interval == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert last == ("b", 1, 4.0, None)


def test_runs_of_grids_that_vary_different_fields_share_a_table(config):
    grids = [
        {"schedule.name": ("linear",), "seed": ("0",)},
        {"objective.times": ("adaptive",), "seed": ("0",)},
    ]
    outcomes = [
        Outcome(point.name, point.overrides, "finished", "", {"total": 1.0}, 0.1)
        for axes in grids
        for point in grid.points(config, axes)
    ]
    found = runner.table(outcomes)
    assert found.columns[:4] == ("schedule.name", "seed", "objective.times", "status")
    assert [row[:3] for row in found.rows] == [("linear", "0", None), (None, "0", "adaptive")]
    assert [row[:2] for row in runner.over_seeds(outcomes).rows] == [
        ("linear", None),
        (None, "adaptive"),
    ]


def words(folder, axes):
    fields = [f"--config.{name}={value}" for name, value in SHRUNK.items()]
    sweep = ["-m", "experiments.sweep", "--config=configs/digits.py", *fields]
    return [*sweep, f"--workdir={folder}", f"--grid={axes}"]


@pytest.mark.slow
def test_a_failure_is_recorded_the_rest_goes_on_and_finished_runs_are_skipped(
    fork_python, data_dir, tmp_path
):
    env = {"VDM_DATA_DIR": str(data_dir)}
    command = words(tmp_path, "schedule.gamma_1=5.0,30.0;seed=0,1")
    done = fork_python(command, devices=1, env=env, check=False, timeout=280)
    assert done.returncode == 1, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [one["status"] for one in summary] == ["finished"] * 2 + ["failed"] * 2
    assert "schedule.gamma_1=30.0: outside float32's useful range" in summary[2]["reason"]
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert float(rows[0]["total"]) > 0 and rows[3]["total"] == ""
    assert "between seeds" in done.stdout
    kept = [(p, p.stat().st_mtime_ns) for p in tmp_path.glob("*seed=0/config.json")]
    again = fork_python(command, devices=1, env=env, check=False, timeout=280)
    assert again.returncode == 1 and kept == [(p, p.stat().st_mtime_ns) for p, _ in kept]
    # The same folder for other runs is refused, run by run, before anything is trained.
    other = [*command, "--config.optimizer.learning_rate=1.0"]
    refused = fork_python(other, devices=1, env=env, check=False, timeout=280)
    assert refused.returncode == 1 and "choose another --workdir" in refused.stdout


@pytest.mark.slow
def test_a_signal_stops_the_run_in_progress_and_the_sweep_resumes(
    fork_python, data_dir, repository, tmp_path
):
    env = {"VDM_DATA_DIR": str(data_dir)}
    command = [
        *words(tmp_path, "seed=0,1"),
        "--config.train.num_steps=1500",  # seconds: the signal reaches it after up to POLL_SECONDS
        "--config.train.log_every_steps=1",
    ]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=repository, env={**os.environ, **env}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    log = tmp_path / "seed=0" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (log.exists() and len(log.read_text().splitlines()) > 10):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 75, output
    (stopped,) = (tmp_path / "seed=0" / "checkpoints").iterdir()
    assert 10 < int(stopped.name) < 1500
    done = fork_python(command, devices=1, env=env, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "resuming" in (tmp_path / "seed=0.log").read_text()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [one["status"] for one in summary] == ["finished"] * 2
