"""What importing costs, and what it must not bring along."""

import time

import pytest

LIMIT_SECONDS = 3.0


def fastest(run, times=3):
    """The shortest of a few runs: the machine may be busy."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
        if seconds[-1] < LIMIT_SECONDS:
            break
    return min(seconds)


def test_importing_the_library_is_quick_and_lean(run_python):
    code = "import sys, vdm, vdm.evaluate, vdm.checkpoint, vdm.train.loop\n"
    code += (
        "print([m for m in ('absl.flags', 'ml_collections', 'tensorflow', 'tensorflow_datasets', "
    )
    code += "'diffrax', 'matplotlib', 'orbax.checkpoint', 'sklearn') if m in sys.modules])"
    found = []
    assert fastest(lambda: found.append(run_python(code, devices=1).stdout)) < LIMIT_SECONDS
    # Optax and Flax bring absl's logging; orbax comes with Flax.
    assert "tensorflow" not in found[0] and "diffrax" not in found[0], found[0]
    assert "ml_collections" not in found[0] and "sklearn" not in found[0], found[0]


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_quick(run_python, name):
    words = ["-m", f"experiments.{name}", "--help"]
    found = []
    assert fastest(lambda: found.append(run_python(words, devices=1).stdout)) < LIMIT_SECONDS
    assert f"python -m experiments.{name}" in found[0]
