"""The account of wall time: categories that add up over kills and restarts, or from old runs on."""

import json
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from experiments.sessions import goodput, goodput_record, training
from vdm.training.metrics_file import last_step, read_json_lines

OPTIONS = {"train.num_steps": 400, "train.log_every_steps": 5, "train.save_every_steps": 100}
OPTIONS |= {"train.evaluate_every_steps": 150}


@pytest.fixture
def clock(monkeypatch):
    """A clock turned by hand, for both kinds of time."""

    class Clock:
        now = 1000.0

        def turn(self, seconds):
            self.now += seconds

    hand = Clock()
    for name in ("monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: hand.now)
    monkeypatch.setattr(goodput_record, "take_start", lambda: hand.now)
    return hand


def test_every_second_belongs_to_one_category(tmp_path, clock):
    with goodput.account(tmp_path, num_steps=4) as account:
        account.record(0.0)
        clock.turn(3.0)
        for step in range(2):
            account.start_step(step)
            with goodput.spending("data"):
                clock.turn(0.25)
            clock.turn(1.0)
        with goodput.spending("evaluate"):
            clock.turn(0.5)
            # A compilation of 4 s, in which one of 1 s and one of 2 s lie.
            for seconds, inner in ((1.0, 1.0), (2.0, 2.0), (1.0, 4.0)):
                clock.turn(seconds)
                account.compiled(inner)
        found = account.seconds()
    expected = {"start": 3.0, "data": 0.5, "step": 2.0, "evaluate": 0.5, "compile": 4.0}
    assert found == pytest.approx(expected)
    assert goodput.metrics() == {} and goodput_record.read(tmp_path).seconds == found


def test_jax_tells_of_compilations_and_of_nothing_else(tmp_path):
    with goodput.account(tmp_path, num_steps=1) as account:
        step = jax.jit(lambda x: jnp.sin(x) * jnp.cos(x))
        step(jnp.ones(3)).block_until_ready()
        compiled = account.seconds()["compile"]
        step(jnp.ones(3)).block_until_ready()
        assert account.seconds()["compile"] == compiled > 0.0


def test_steps_made_again_and_the_time_between_count_apart(tmp_path, clock):
    """A process killed at step 3 of 5 after its checkpoint at 1."""
    killed = goodput.Account(tmp_path, num_steps=5)
    for step in range(4):
        killed.start_step(step)
        clock.turn(1.0)
    killed.record(0.0)
    assert killed.close().step == 3
    (tmp_path / f".{goodput_record.NAME}.1-2.tmp").write_text("killed as it was written")
    clock.turn(7.0)
    resumed = goodput.Account(tmp_path, num_steps=5)
    for step in range(1, 5):
        resumed.start_step(step)
        clock.turn(1.0)
    expected = {"step": 4.0 + 2.0, "recomputed": 2.0, "idle": 7.0}
    assert resumed.seconds() == pytest.approx(expected)
    resumed.record(0.0)
    resumed.close()
    assert [path.name for path in tmp_path.iterdir()] == [goodput_record.NAME]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"seconds": 3}', "\0" * 50, "[" * 99_999])
def test_a_damaged_account_is_named_and_begun_anew(tmp_path, capfd, content):
    (tmp_path / goodput_record.NAME).write_text(content)
    assert goodput_record.read(tmp_path) is None
    assert f"WARNING: {tmp_path}" in capfd.readouterr().err


def test_an_account_that_cannot_be_written_ends_nothing(tmp_path, capfd):
    with goodput.account(tmp_path / "missing", num_steps=1) as account:
        account.record(0.0)
    assert "WARNING" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_of_before_there_was_an_account(make_parts, tmp_path):
    """Its time so far is taken from its checkpoint."""
    training.run(make_parts(num_steps=2), tmp_path)
    (tmp_path / goodput_record.NAME).unlink()
    training.run(make_parts(num_steps=4), tmp_path, ["train.num_steps"])
    before = [line["seconds"] for line in read_json_lines(tmp_path / "metrics.jsonl")[:2]][1]
    account = goodput_record.read(tmp_path)
    assert before <= account.seconds["earlier"] <= before + 30.0
    assert sum(account.seconds.values()) == pytest.approx(account.updated - account.first_start)


def wait_for_step(folder, step, process):
    deadline = time.monotonic() + 120
    while last_step(folder / "metrics.jsonl") < step:
        assert process.poll() is None, process.read()
        assert time.monotonic() < deadline, process.read()
        time.sleep(0.02)


def account_of(folder):
    return json.loads((folder / goodput_record.NAME).read_text())["seconds"]


@pytest.mark.slow
def test_the_categories_are_the_wall_time_over_a_kill_and_a_stop(
    fork_python, start_training, tmp_path
):
    """Killed by SIGKILL at step 140, past the checkpoint at 100; stopped by SIGTERM at 240."""
    fork_python("")  # the server that the processes are forked from takes seconds to start
    path, began, gaps = tmp_path / goodput_record.NAME, time.time(), []
    for number, step in ((signal.SIGKILL, 140), (signal.SIGTERM, 240), (None, 400)):
        if path.exists():
            time.sleep(1.0)
            gaps.append(time.time() - path.stat().st_mtime)
        process = start_training(tmp_path, OPTIONS)
        if number is None:
            output = process.communicate(timeout=120)[0]
        else:
            wait_for_step(tmp_path, step, process)
            process.send_signal(number)
            output = process.communicate(timeout=60)[0]
            assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75}[number], output
    assert process.returncode == 0, output

    # The last process writes it as it prints its last line.
    wall, seconds = path.stat().st_mtime - began, account_of(tmp_path)
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.02)
    assert seconds["idle"] == pytest.approx(sum(gaps), abs=0.02 * wall)
    assert seconds["recomputed"] > 0.0
    assert set(seconds) == set(goodput.CATEGORIES) - {"earlier"}
    assert output.splitlines()[-1].startswith("wall time")

    logged = [line for line in read_json_lines(tmp_path / "metrics.jsonl") if "seconds" in line][-1]
    parts = sum(value for name, value in logged.items() if name.startswith("seconds/"))
    assert logged["goodput"] == pytest.approx(logged["seconds/step"] / parts, abs=1e-3)
