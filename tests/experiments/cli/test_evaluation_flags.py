"""Flags that launchers share: who they belong to, and options of bounds under their former names."""

import sys

import pytest
from absl import flags

from experiments.cli import evaluation_flags, parsing
from vdm.errors import ConfigError


def test_a_launcher_owns_the_flags_that_it_asks_for(run_python):
    """absl would give them to the module that defines them, and --help would list none or all."""
    words = ["-m", "experiments.noise_maps", "--help"]
    text = run_python(words, devices=1).stdout
    listed = {line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  --")}
    own = {"workdir", "out", "split", "num_images", "times", "seed", "step"}
    assert listed == {f"--{name}" for name in {*own, "debug", "verbosity"}}


@pytest.fixture
def former():
    """`former(bounds, flag=value)` -> `with_former_options` under those flags."""
    if "ode_solver" not in flags.FLAGS:
        evaluation_flags.former_options()
        flags.FLAGS([sys.argv[0]])

    def forward(bounds, **given):
        for name in evaluation_flags.FORMER_OPTIONS:
            flags.FLAGS[name].value = given.get(name)
        return evaluation_flags.with_former_options(bounds)

    return forward


def test_options_by_former_flags(former, capsys):
    assert former("ode,iwae@10") == "ode,iwae@10" and not capsys.readouterr().err
    assert former("ode,iwae@10", ode_solver="tsit5") == "ode:solver=tsit5,iwae@10"
    assert "--bound=ode:solver=tsit5" in capsys.readouterr().err
    found = former("iwae@10:num_weights=4,iwae@20", iwae_weights="8")
    assert found == "iwae@10:num_weights=4,iwae@20:num_weights=8"
    with pytest.raises(ConfigError, match="--density=fitted: is an option of continuous"):
        former("ode", density="fitted")


def test_every_former_flag_sets_an_option_that_exists():
    from vdm.evaluation.bounds import BOUNDS
    from vdm.evaluation.bounds.options import options_of

    for bound, option in evaluation_flags.FORMER_OPTIONS.values():
        assert option in options_of(BOUNDS[bound])


def test_an_option_of_a_bound_is_no_flag():
    message = "bound=continuous:density=x: choose uniform or fitted"
    assert parsing.name_flags(message, ["density", "bound"]) == f"--{message}"
