"""A training that hangs ends with exit code 75 and its stacks on disk; one that is slow does not."""

import signal
import time

import pytest

from experiments.sessions.watchdog import StepClock, Watchdog
from tests.experiments.conftest import ends, train_words
from tests.experiments.sessions.test_interrupted import wait_for_step
from tests.forking import Forked

LONG = {"train.num_steps": 100_000, "train.log_every_steps": 1, "train.save_every_steps": 0}
LONG |= {"train.evaluate_every_steps": 0, "train.num_samples": 0, "train.watchdog_seconds": 5}

# The batches of steps from 40 on never come, where the command line ends with a certain word.
BLOCK = """
import runpy, sys, time
from vdm.runs.parts import Parts

make_batch, blocks = Parts.train_batch, sys.argv[-1] == {last!r}

def never_returns(parts, step):
    if step >= 40 and blocks:
        time.sleep(1000)
    return make_batch(parts, step)

Parts.train_batch = never_returns
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def ended():
    """The exit codes with which a watchdog of this process would have ended it."""
    return []


def watchdog(folder, ended, **options):
    return Watchdog(folder, end=ended.append, **{"limit_seconds": 0.1, **options})


def a_step_that_hangs(dog, seconds):
    dog.start_step(0)  # compiles
    dog.start_step(1)
    time.sleep(seconds)


def test_a_hang_ends_the_process_with_its_stacks(tmp_path, ended, capfd):
    with watchdog(tmp_path, ended) as dog:
        a_step_that_hangs(dog, 0.8)
    assert ended == [75]
    (path,) = (tmp_path / "stacks").iterdir()
    assert path.name == "rank-0-step-2.txt" and "a_step_that_hangs" in path.read_text()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: step 2 has not ended after 0 s; ") and str(path) in line


PATIENT = {
    "compiling": lambda dog: dog.start_step(0),
    "evaluating, sampling or saving": lambda dog: (
        dog.start_step(0),
        dog.start_step(1),
        dog.pause(),
    ),
    "before the first step": lambda dog: None,
}


@pytest.mark.parametrize("doing", PATIENT)
def test_what_may_take_long_does(tmp_path, ended, doing):
    with watchdog(tmp_path, ended) as dog:
        PATIENT[doing](dog)
        time.sleep(0.5)
    assert ended == [] and not list(tmp_path.iterdir())


def test_slow_steps_may_take_twenty_times_their_median(tmp_path, ended):
    slow = StepClock(lambda: 100 * time.monotonic())
    with watchdog(tmp_path, ended, clock=slow) as dog:
        for step in range(4):
            dog.start_step(step)
            time.sleep(0.01)
        time.sleep(0.5)
    assert ended == []


def test_none_is_asked_for(tmp_path, ended):
    with watchdog(tmp_path, ended, limit_seconds=0) as dog:
        a_step_that_hangs(dog, 0.3)
    assert ended == []


def test_the_median_counts_what_an_accelerator_takes():
    """Ten calls return at once and then wait for all ten: a step still takes a tenth of that."""
    now = [0.0]
    clock = StepClock(lambda: now[0])
    for step in range(2):
        clock.start_step(step)
    now[0] += 3.0  # the second call is waited for
    for step in range(2, 42):
        clock.start_step(step)
        now[0] += 30.0 if step % 10 == 1 else 0.0
    assert clock.median() == pytest.approx(3.0)


def test_the_first_step_stands_in_for_the_median_of_none():
    """One call may make a thousand slow steps: a second call as long as the first is no hang."""
    now = [0.0]
    clock = StepClock(lambda: now[0])
    clock.start_step(0)
    now[0] += 700.0
    clock.start_step(1)
    assert clock.median() == 700.0


@pytest.mark.slow
def test_a_source_of_data_that_blocks(train_command, tmp_path):
    """One process alone."""
    command = train_command(tmp_path / "run", LONG)
    words = command["args"][3:]
    code = BLOCK.format(last=words[-1])
    process = Forked(["-c", code, *words], command["env"], command["cwd"])
    ((code, errors),) = ends([process], 60)
    assert code == 75, errors
    path = tmp_path / "run" / "stacks" / "rank-0-step-41.txt"
    assert f"error: step 41 has not ended after 5 s; every thread's stack is in {path}" in errors
    assert "never_returns" in path.read_text() and "train_in_folder" in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stopped", "limit"),
    [
        (1, 5),
        *(pytest.param(*case, marks=pytest.mark.nightly) for case in ((0, 5), (1, 600), (0, 600))),
    ],
)
def test_a_process_that_is_stopped_is_named(start_pair, tmp_path, stopped, limit):
    """SIGSTOP to one: the other waits for it in a collective. Process 0 serves both heartbeats.

    With the default limit the silence is noticed first, and before JAX would abort.
    """
    processes = start_pair(tmp_path / "run", {**LONG, "train.watchdog_seconds": limit})
    wait_for_step(tmp_path / "run", 20, processes[0])
    processes[stopped].send_signal(signal.SIGSTOP)
    ((code, errors),) = ends([processes[1 - stopped]], 90)
    assert code == 75, errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: step ") and f"; process {stopped} of 2 does not answer; " in last
    (path,) = (tmp_path / "run" / "stacks").iterdir()
    assert "train_in_folder" in path.read_text() and str(path) in last


@pytest.mark.slow
def test_every_process_writes_its_stacks(start_pair, tmp_path):
    """The data of process 1 block; process 0 waits for it in a collective."""
    words = ["-c", BLOCK.format(last="--process_id=1"), *train_words(tmp_path / "run", LONG)[2:]]
    outcomes = ends(start_pair(tmp_path / "run", words=words), 90)
    assert [code for code, _ in outcomes] == [75, 75], outcomes
    for rank, (_, errors) in enumerate(outcomes):
        last = errors.splitlines()[-1]
        (path,) = (tmp_path / "run" / "stacks").glob(f"rank-{rank}-*.txt")
        assert last.startswith("error: step ") and str(path) in last
        assert ("never_returns" in path.read_text()) == (rank == 1)
