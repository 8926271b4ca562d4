"""Images per second: with a clock turned by hand."""

import pytest

from experiments.sessions.throughput import Speed


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def train(speed, clock, num_steps, seconds=0.5):
    for _ in range(num_steps):
        speed.start_step()
        clock.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def speed(clock):
    return Speed(16, clock)


def test_logging_every_step(speed, clock):
    """Nothing is known of the step that compiles, and all others have their speed."""
    train(speed, clock, 1, seconds=60.0)
    assert speed.take() is None
    for seconds in (0.5, 0.25):
        train(speed, clock, 1, seconds)
        assert speed.take() == pytest.approx(16 / seconds)


def test_the_step_that_compiles_is_left_out(speed, clock):
    train(speed, clock, 1, seconds=60.0)
    train(speed, clock, 4)
    assert speed.take() == pytest.approx(32.0)


@pytest.mark.parametrize("before", [1, 2, 3])
def test_evaluating_and_saving_do_not_count(speed, clock, before):
    """Also right after the step that compiles, and one after the other."""
    train(speed, clock, before)
    for _ in range(2):
        speed.stop()
        clock.now += 1000.0
    train(speed, clock, 4)
    assert speed.take() == pytest.approx(32.0)
    speed.stop()
    clock.now += 1000.0
    train(speed, clock, 2)
    assert speed.take() == pytest.approx(32.0)


def test_before_any_step(speed, clock):
    speed.stop()
    assert speed.take() is None
    train(speed, clock, 1)
    assert speed.take() is None
