"""What importing costs, and what it must not bring along."""

import resource

import pytest

LIMIT_SECONDS = 3.0


def cpu_seconds(run):
    """Processor time of the child processes of `run()`: of wall time, a busy machine adds to it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_importing_the_library_is_quick_and_lean(run_python):
    code = "import sys, vdm, vdm.evaluation.evaluate, vdm.training.checkpoint, vdm.training.loop\n"
    code += "import vdm.plots\n"
    code += (
        "print([m for m in ('absl.flags', 'ml_collections', 'tensorflow', 'tensorflow_datasets', "
    )
    code += "'diffrax', 'matplotlib', 'orbax.checkpoint', 'sklearn') if m in sys.modules])"
    found = []
    assert cpu_seconds(lambda: found.append(run_python(code, devices=1).stdout)) < LIMIT_SECONDS
    # Optax and Flax bring absl's logging; orbax comes with Flax.
    assert "tensorflow" not in found[0] and "diffrax" not in found[0], found[0]
    assert "ml_collections" not in found[0] and "sklearn" not in found[0], found[0]
    assert "matplotlib" not in found[0], found[0]


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_quick(run_python, name):
    words = ["-m", f"experiments.{name}", "--help"]
    found = []
    assert cpu_seconds(lambda: found.append(run_python(words, devices=1).stdout)) < LIMIT_SECONDS
    assert f"python -m experiments.{name}" in found[0]
