"""Long runs: resuming, evaluating and listing cost little more than for a short one."""

import os
import shutil
import subprocess
import sys

import pytest

NUM_LINES, MEGABYTES = 184_000, 100
_METRICS = ", ".join(f'"metric_{n}": {n / 7:.17g}' for n in range(16))
LINES = [f'{{"step": {{step}}, {_METRICS}}}\n'.replace("{step}", str(n)) for n in (5, 20)]


def write_metrics(path, end):
    """100 MB of records of step 5, a damaged one between them, and the lines of `end`."""
    with path.open("w") as file:
        for _ in range(10):
            file.writelines([LINES[0]] * (NUM_LINES // 10))
        file.write('{"step": 5, "metric\n' + LINES[0])
        file.writelines(end)
    assert path.stat().st_size > MEGABYTES * 1e6 * 0.8


@pytest.mark.slow
def test_cutting_100_mb_of_metrics(run_python, tmp_path):
    """In at most 2 s of processor time and 100 MB of memory, with the damage put aside."""
    write_metrics(tmp_path / "metrics.jsonl", [LINES[1]] * 10)
    code = f"""
import resource, sys, time
from pathlib import Path
from vdm.training.metrics_file import cut_to_step, last_step
path = Path({str(tmp_path / "metrics.jsonl")!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert last_step(path) == 20
started = time.process_time()
cut_to_step(path, 10)
print(time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    seconds, kibibytes = map(float, run_python(code, devices=1).stdout.split())
    assert seconds <= 2.0 and kibibytes <= 100_000
    assert (tmp_path / "metrics.damaged.jsonl").read_text() == '{"step": 5, "metric\n'
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(LINES[0].encode())


def cost(words, cwd, env):
    """(processor seconds, peak memory in MB) of a command."""
    null = subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=cwd, env=env, stdout=null, stderr=subprocess.PIPE)
    errors = process.stderr.read().decode()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, errors
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@pytest.fixture
def resume_cost(finished, train_command, tmp_path):
    """`resume_cost(change)` -> (seconds, MB) to resume a copy of a run, at its step 9 of 12."""

    def measure(name, change):
        folder = tmp_path / name
        shutil.copytree(finished[0], folder)
        shutil.rmtree(folder / "checkpoints" / "12")
        change(folder)
        return cost(*(train_command(folder)[key] for key in ("args", "cwd", "env")))

    return measure


def many_metrics(folder):
    """The run's own records go on from those."""
    own = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    write_metrics(folder / "metrics.jsonl", [line for line in own if '"step": 4' not in line])


def many_checkpoints(folder):
    """200 copies, under the numbers that a longer run would have kept."""
    for number in range(100_000, 100_200):
        shutil.copytree(folder / "checkpoints" / "6", folder / "checkpoints" / str(number))


def many_evaluations(folder):
    (record,) = (folder / "evaluations").glob("*.json")
    for number in range(1000):
        for path in (record, record.with_suffix(".npz")):
            shutil.copy(path, path.with_name(path.name.replace("-seed0", f"-seed{number + 1}")))


@pytest.mark.nightly
def test_resuming_with_100_mb_of_metrics(resume_cost):
    """The bounds are the difference from a short run's; 6.4 s and 820 MB before it was streamed."""
    seconds, megabytes = min(resume_cost(f"short{n}", lambda folder: None) for n in range(2))
    long_seconds, long_megabytes = min(resume_cost(f"long{n}", many_metrics) for n in range(2))
    assert long_seconds - seconds <= 2.0 and long_megabytes - megabytes <= 100.0


@pytest.mark.nightly
def test_resuming_and_listing_with_1000_evaluations(resume_cost, finished, repository, tmp_path):
    short = resume_cost("short", lambda folder: None)
    long = resume_cost("long", many_evaluations)
    assert long[0] - short[0] <= 2.0 and long[1] - short[1] <= 100.0

    words = [sys.executable, "-m", "experiments.results"]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    listed = [
        cost([*words, f"--workdirs={folder}"], repository, env)
        for folder in (finished[0], tmp_path / "long")
    ]
    assert listed[1][0] - listed[0][0] <= 3.0 and listed[1][1] - listed[0][1] <= 100.0


@pytest.fixture
def evaluate_cost(finished, repository, data_dir, tmp_path):
    def measure(name, change):
        folder = tmp_path / name
        shutil.copytree(finished[0], folder)
        change(folder)
        env = {**os.environ, "PYTHONPATH": str(repository), "VDM_DATA_DIR": str(data_dir)}
        words = [sys.executable, "-m", "experiments.evaluate", f"--workdir={folder}", "--step=12"]
        return cost(words, repository, env)

    return measure


@pytest.mark.nightly
def test_evaluating_among_200_checkpoints_and_1000_evaluations(evaluate_cost):
    def change(folder):
        many_checkpoints(folder)
        many_evaluations(folder)

    short, long = evaluate_cost("short", lambda folder: None), evaluate_cost("long", change)
    assert long[0] - short[0] <= 2.0 and long[1] - short[1] <= 100.0
