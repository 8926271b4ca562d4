"""Several steps in one call are those steps, one by one."""

import jax
import numpy as np
import pytest

from experiments.cli.parsing import load_config
from vdm.errors import ConfigError
from vdm.runs.parts import build
from vdm.runtime import devices
from vdm.training.loop import Hooks, train


def config_of(**options):
    config = load_config("configs/digits.py").to_dict()
    config["denoiser"]["name"] = "mlp"
    config["denoiser"]["mlp"].update(width=8, num_blocks=1)
    config["train"].update(batch_size=8, num_steps=6, **options)
    for name in config["train"]:
        if name.endswith("_every_steps"):
            config["train"][name] = 3
    return config


def run(tmp_path, steps_per_call):
    parts = build(config_of(steps_per_call=steps_per_call), cache_dir=tmp_path)
    logged, saved = [], []
    hooks = Hooks(
        log=lambda step, metrics: logged.append((step, metrics)),
        log_every_steps=3,
        evaluate=lambda state: None,
        evaluate_every_steps=3,
        save=lambda state, window: saved.append(int(state.step)),
        save_every_steps=3,
    )
    step, state = parts.train_step(), parts.fresh_state()
    state = train(state, step, parts.train_batch, 6, hooks, (), parts.steps_per_call)
    return devices.to_host(state), logged, saved


@pytest.mark.slow
def test_three_steps_a_call_equal_single_steps(tmp_path):
    (one, logged, saved), (three, same_logged, same_saved) = (run(tmp_path, n) for n in (1, 3))
    assert saved == same_saved == [3, 6]
    for (step, metrics), (same_step, same) in zip(logged, same_logged, strict=True):
        assert step == same_step
        assert same == pytest.approx(metrics, rel=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(three), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_steps_per_call_must_divide_every_period(tmp_path):
    with pytest.raises(ConfigError, match=r"_steps=\d: must be a multiple of .*steps_per_call=4"):
        build(config_of(steps_per_call=4), cache_dir=tmp_path)
