"""A real SIGTERM inside a validation or a sampling: what is resumed equals what was never stopped."""

import json
import os
import re
import signal

import pytest

from experiments.sessions import periodic, session, training
from tests.experiments.conftest import repeatable
from vdm.errors import Preempted
from vdm.runs import record
from vdm.training.checkpoint import Checkpoints
from vdm.training.writers import read_json_lines

pytestmark = pytest.mark.slow

METRIC = periodic.VALIDATION
NUM_STEPS = 7


def lines(folder):
    """Every logged number that no clock changes."""
    found = read_json_lines(folder / "metrics.jsonl")
    return [repeatable(line) for line in found]


def arrays(folder, step=NUM_STEPS):
    path = folder / "checkpoints" / str(step) / "record" / "metadata"
    return json.loads(path.read_text())["content"]["arrays"]


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}


def metric(folder, step):
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    return checkpoints.metric(step)


@pytest.fixture(scope="module")
def never_stopped(make_parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("never_stopped")
    training.run(make_parts(), folder)
    return folder


class Kill:
    """Sends this process a SIGTERM within the n-th call, after its first batch."""

    def __init__(self, nth):
        self.left = nth

    def now(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def kill_within_validation(monkeypatch, nth):
    kill, real = Kill(nth), record.evaluation_progress

    def progress(bar, check):
        kill_after_one_batch, report_batch = iter([kill.now]), real(bar, check)

        def report_and_kill(done, total):
            next(kill_after_one_batch, lambda: None)()
            report_batch(done, total)

        return report_and_kill

    monkeypatch.setattr(record, "evaluation_progress", progress)


def kill_within_sampling(monkeypatch, nth):
    kill, real = Kill(nth), periodic.draw_samples

    def draw(step, *args):
        def step_and_kill(*args):
            kill.now()
            return step(*args)

        return real(step_and_kill, *args)

    monkeypatch.setattr(periodic, "draw_samples", draw)


PLACES = {
    "validation": (kill_within_validation, 1, 4),
    "sampling": (kill_within_sampling, 1, 4),
    "last validation": (kill_within_validation, 2, NUM_STEPS),
    "last sampling": (kill_within_sampling, 2, NUM_STEPS),
}


@pytest.mark.parametrize("place", PLACES)
def test_resumed_equals_never_stopped(never_stopped, make_parts, tmp_path, monkeypatch, place):
    kill, nth, step = PLACES[place]
    with monkeypatch.context() as patched:
        kill(patched, nth)
        with pytest.raises(Preempted, match="SIGTERM"):
            training.run(make_parts(), tmp_path)
    assert lines(tmp_path) == lines(never_stopped)[: len(lines(tmp_path))]
    assert max(line["step"] for line in lines(tmp_path)) == step
    assert f"train-step{step}.png" not in pictures_or_none(tmp_path)
    training.run(make_parts(), tmp_path)
    assert lines(tmp_path) == lines(never_stopped)
    assert arrays(tmp_path) == arrays(never_stopped)
    assert pictures(tmp_path) == pictures(never_stopped)
    for at in {step, NUM_STEPS}:
        (logged,) = [
            line[METRIC] for line in lines(tmp_path) if line["step"] == at and METRIC in line
        ]
        assert metric(tmp_path, at) == logged
    reports = [
        next((f / "evaluations").glob("*.npz")).read_bytes() for f in (tmp_path, never_stopped)
    ]
    assert reports[0] == reports[1]


def pictures_or_none(folder):
    return pictures(folder) if (folder / "samples").is_dir() else {}


def test_a_kill_within_the_catching_up_doubles_no_line(
    never_stopped, make_parts, tmp_path, monkeypatch
):
    """Between the line in the log and the record of the checkpoint that it is done."""

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        kill_within_validation(patched, 1)
        with pytest.raises(Preempted):
            training.run(make_parts(), tmp_path)
        patched.setattr(Checkpoints, "amend", killed)
        with pytest.raises(KeyboardInterrupt):
            training.run(make_parts(), tmp_path)
    assert METRIC in lines(tmp_path)[-1]
    training.run(make_parts(), tmp_path)
    assert lines(tmp_path) == lines(never_stopped)


def test_what_is_done_is_known_without_a_log(make_parts, tmp_path, monkeypatch):
    """Resumed where it was complete, it evaluates and samples nothing again."""
    parts = make_parts(writers=(), num_steps=4)
    training.run(parts, tmp_path)
    done = []
    monkeypatch.setattr(periodic, "run_evaluation", lambda *args: done.append("evaluated"))
    monkeypatch.setattr(periodic, "draw_samples", lambda *args: done.append("sampled"))
    training.run(parts, tmp_path)
    assert done == []


def test_progress_shows_the_validation_just_made(make_parts, tmp_path, capsys):
    training.run(make_parts(), tmp_path)
    logged = {line["step"]: line[METRIC] for line in lines(tmp_path) if METRIC in line}
    shown = dict(
        re.findall(r"training (\d)/7 steps .* validation ([\d.]+)", capsys.readouterr().out)
    )
    expected = {4: logged[4], 5: logged[4], 6: logged[4], 7: logged[7]}
    assert shown == {str(step): f"{value:.4f}" for step, value in expected.items()}
    found = read_json_lines(tmp_path / "metrics.jsonl")
    speeds = [line.get("images_per_second") for line in found if METRIC not in line]
    assert speeds[0] is None and all(speed > 0 for speed in speeds[1:]) and len(speeds) == 7


def test_stopped_before_the_first_step(make_parts, tmp_path, monkeypatch):
    def make_writer(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return lambda step, values: None

    monkeypatch.setattr(session, "make_writer", make_writer)
    with pytest.raises(Preempted, match="stopped by SIGTERM; nothing to save yet; run again"):
        training.run(make_parts(), tmp_path)
