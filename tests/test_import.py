"""Libraries that an import must not load, as they are most of a launcher's start-up time."""

import pytest

HEAVY = ("tensorflow", "tensorflow_datasets", "diffrax", "matplotlib", "sklearn", "scipy.stats")
LIBRARY = """
import sys, vdm, vdm.evaluation.evaluate, vdm.training.checkpoint, vdm.training.loop
print([name for name in {names} if name in sys.modules])
import vdm.plots
assert "matplotlib" not in sys.modules
"""
HELP = """
import runpy, sys
sys.argv = ["{launcher}", "--help"]
try:
    runpy.run_module("experiments.{launcher}", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    assert not ended.code
print([name for name in {names} if name in sys.modules])
"""


def test_importing_the_library_brings_only_what_it_needs(run_python):
    code = LIBRARY.format(names=(*HEAVY, "ml_collections"))
    assert run_python(code, devices=1).stdout == "[]\n"


@pytest.mark.parametrize("launcher", ["train", "evaluate"])
def test_help_answers_without_jax(run_python, launcher):
    code = HELP.format(launcher=launcher, names=(*HEAVY, "jax", "flax", "optax", "orbax"))
    text, _, found = run_python(code, devices=1).stdout.strip().rpartition("\n")
    assert f"python -m experiments.{launcher}" in text and found == "[]"
