"""Two real processes over loopback: one run, one writer, one stop; and what goes wrong at the start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.experiments.conftest import train_words

SMALL = {
    "denoiser.name": "mlp",
    "denoiser.mlp.width": 64,
    "denoiser.mlp.num_blocks": 1,
    "train.num_samples": 0,
    "optimizer.decay": "constant",  # the other would depend on num_steps
    "optimizer.eps": 1e-3,  # Adam's first steps make much of rounding
}


@pytest.fixture
def start(repository, data_dir):
    """`start(workdir, index, port, ...)` -> one of two processes, each with its own devices."""
    started = []

    def run(workdir, index, port, *flags, devices=2, overrides=None):
        words = train_words(workdir, {**SMALL, **(overrides or {})})
        place = [
            "--distributed",
            f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={index}",
        ]
        settings = {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
            "VDM_DATA_DIR": str(data_dir),
            "PYTHONPATH": str(repository),
        }
        process = subprocess.Popen(
            [sys.executable, *words, *place, *flags],
            cwd=repository,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            # Nothing milder ends a process that waits for another.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def finish(processes, timeout):
    """[(exit code, output, errors)] of processes that must end in time."""
    deadline = time.monotonic() + timeout
    found = []
    for process in processes:
        try:
            output, errors = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            for other in processes:
                if other.poll() is None:
                    os.killpg(other.pid, signal.SIGKILL)
            pytest.fail(f"process {process.args[-1]} did not end in {timeout} s")
        found.append((process.returncode, output, errors))
    return found


@pytest.mark.slow
def test_a_signal_to_any_one_stops_both_at_the_same_step(start, tmp_path):
    long = {"devices.parameter_shards": 2, "train.num_steps": 4000, "train.log_every_steps": 1}
    port, metrics = free_port(), tmp_path / "run" / "metrics.jsonl"
    processes = [start(tmp_path / "run", i, port, overrides=long) for i in (0, 1)]
    deadline = time.monotonic() + 150
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    ended = finish(processes, 100)
    assert [code for code, _, _ in ended] == [75, 75], ended
    saved = {errors.splitlines()[-1] for _, _, errors in ended}
    assert len(saved) == 1 and "stopped by SIGTERM; saved step" in saved.pop()
    assert not any(line.startswith("training") for line in ended[1][1].splitlines())


@pytest.mark.nightly
def test_a_killed_process_ends_the_other_and_both_are_resumed(start, tmp_path):
    """Fault: SIGKILL to process 1. Process 0 ends within 100 s; restarted, nothing is different.

    JAX notices a lost process by its heartbeat, after half a minute.
    """
    fields = {"train.num_steps": 200, "train.log_every_steps": 1, "train.save_every_steps": 20}
    fields |= {"train.evaluate_every_steps": 0}
    killed, whole, lines = tmp_path / "killed", tmp_path / "whole", {}
    port, metrics = free_port(), killed / "metrics.jsonl"
    processes = [start(killed, i, port, overrides=fields) for i in (0, 1)]
    deadline = time.monotonic() + 150
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 50):
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    assert [code != 0 for code, _, _ in finish(processes, 100)] == [True, True]
    for folder in (killed, whole):
        port = free_port()
        ended = finish([start(folder, i, port, overrides=fields) for i in (0, 1)], 300)
        assert [code for code, _, _ in ended] == [0, 0], [errors[-2000:] for *_, errors in ended]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        lines[folder] = [(row["step"], row.get("bits_per_dim")) for row in rows]
    assert lines[killed] == lines[whole]


@pytest.mark.slow
def test_two_processes_reach_the_numbers_of_one_and_are_resumed_by_one(start, launch, tmp_path):
    whole, parted, port = tmp_path / "whole", tmp_path / "parted", free_port()
    expected = launch("train", whole, devices=1, overrides=SMALL)
    assert expected.returncode == 0, expected.stderr
    overrides = {"train.num_steps": 6, "devices.parameter_shards": 2}
    ended = finish([start(parted, i, port, overrides=overrides) for i in (0, 1)], 200)
    assert [code for code, _, _ in ended] == [0, 0], ended
    changes = "--allow_change=train.num_steps,devices.parameter_shards"
    resumed = launch("train", parted, changes, devices=1, overrides=SMALL)
    assert resumed.returncode == 0, resumed.stderr
    assert "at step 6" in resumed.stdout
    found = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, parted)
    ]
    losses = [{r["step"]: r["bits_per_dim"] for r in rows if "bits_per_dim" in r} for rows in found]
    # The first run also logs at its own end, step 6.
    assert losses[1][4] == pytest.approx(losses[0][4], rel=1e-5)
    assert losses[1][12] == pytest.approx(losses[0][12], rel=1e-4)


@pytest.mark.parametrize(("present", "absent"), [(0, 1), (1, 0)])
def test_a_process_that_never_joins_is_named(start, tmp_path, present, absent):
    process = start(tmp_path / "run", present, free_port(), "--join_timeout_seconds=2")
    ((code, _, errors),) = finish([process], 60)
    assert code == 2
    assert errors.startswith(f"error: --distributed: process {absent} of 2 did not")
    assert len(errors.splitlines()) == 1


def test_processes_with_other_configurations_all_stop(start, tmp_path):
    port, workdir = free_port(), tmp_path / "run"
    processes = [start(workdir, i, port, overrides={"seed": i}) for i in (0, 1)]
    for code, _, errors in finish(processes, 60):
        assert code == 2
        assert errors.startswith("error: --config.seed: process 0 has '0', process 1 has '1'")
        assert len(errors.splitlines()) == 1
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("name", "flags", "problem"),
    [
        ("train", ["--process_id=1"], "add --distributed"),
        ("train", ["--distributed"], "--workdir: needed with --distributed"),
        ("compare", ["--workdirs=a,b", "--out=c", "--distributed"], "runs in one process"),
        ("train", ["--distributed", "--workdir=a", "--num_processes=2"], "give --coordinator"),
    ],
)
def test_flags_that_do_not_fit(run_python, name, flags, problem):
    config = ["--config=configs/digits.py"] if name == "train" else []
    done = run_python(["-m", f"experiments.{name}", *config, *flags], devices=1, check=False)
    assert done.returncode == 2 and problem in done.stderr
    assert len(done.stderr.splitlines()) == 1
