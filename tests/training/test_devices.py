"""One training step on 1 and on 8 simulated devices, from the same state."""

import json

import pytest

CODE = """
import json, sys
import jax, numpy as np
from vdm.runs.parts import build
from experiments.cli.parsing import load_config
from vdm.runtime import devices
from vdm.models.vdm import noise
from vdm.seeds import stream_key
from vdm.data.batches import train_batch

config = load_config({config!r}).to_dict()
config["denoiser"]["name"] = {network!r}
config["denoiser"]["unet"].update(channels=8, num_blocks=1)
config["denoiser"]["mlp"].update(width=16, num_blocks=1)
config["objective"]["num_timesteps"] = {timesteps}
config["train"]["batch_size"] = 32
config["optimizer"]["eps"] = 1e3  # the update is then the gradient, scaled: Adam divides by nothing
config["optimizer"]["clip_norm"] = config["optimizer"]["schedule_clip_norm"] = 0.0
config["evaluate"]["batch_size"] = 8
parts = build(config, cache_dir={cache!r})
step, state = parts.train_step(), parts.fresh_state()
# The network's outputs start at zero, where most gradients vanish; so does what a context shifts.
shake = lambda p: p + 0.05 * jax.random.normal(jax.random.key(p.size), p.shape)
params = {{**state.params, "denoiser": jax.tree.map(shake, state.params["denoiser"])}}
if parts.model.context is not None:
    own = params["schedule"]
    params["schedule"] = {{**own, "shape": jax.tree.map(shake, own["shape"])}}
state = state.replace(params=params)
state = jax.device_put(state, devices.replicated(parts.mesh))
batch = train_batch(parts.dataset, 0, 0, 32)
key = jax.random.split(jax.random.fold_in(stream_key(config["seed"], "training"), 0))[0]
sharding = devices.batch_sharding(parts.mesh)
draw = jax.jit(lambda k: noise.training_noise(k, 32, (8, 8, 1)), out_shardings=sharding)
drawn = devices.to_host(draw(key))
before = devices.to_host(state.params)
after, metrics = step(state, devices.place_batch(batch, parts.mesh))
moved = jax.tree.map(lambda a, b: (np.asarray(b) - a).ravel().tolist(), before, after.params)
state, second = step(after, devices.place_batch(train_batch(parts.dataset, 0, 1, 32), parts.mesh))
print(json.dumps(dict(
    count=len(jax.devices()), traces=step._cache_size(), index=batch.index.tolist(),
    times=drawn.times.tolist(), eps=drawn.eps.ravel().tolist(),
    metrics={{n: float(v) for n, v in metrics.items()}},
    moved=sum(jax.tree.leaves(moved, is_leaf=lambda x: isinstance(x, list)), []))))
"""


CASES = [
    ("mlp", 0, "digits.py"),
    ("mlp", 1000, "digits.py"),
    # Compiling convolutions for eight devices takes a minute; the encoder of contexts has two.
    pytest.param("unet", 0, "digits.py", marks=pytest.mark.slow),
    pytest.param("mlp", 0, "digits.py:conditional", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "timesteps", "config"), CASES)
def test_one_and_eight_devices_agree(fork_python, tmp_path, network, timesteps, config):
    import numpy as np

    settings = {"timesteps": timesteps, "network": network, "config": f"configs/{config}"}
    code = CODE.format(cache=str(tmp_path), **settings)
    one, eight = (json.loads(fork_python(code, devices=n, timeout=280).stdout) for n in (1, 8))
    assert (one["count"], eight["count"]) == (1, 8)
    assert one["traces"] == eight["traces"] == 1
    for name in ("index", "times", "eps"):
        assert one[name] == eight[name]
    for name, value in one["metrics"].items():
        assert eight["metrics"][name] == pytest.approx(value, rel=1e-5), name
    moved = [np.array(found["moved"]) for found in (one, eight)]
    assert np.linalg.norm(moved[0]) > 0
    assert np.linalg.norm(moved[0] - moved[1]) < 1e-5 * np.linalg.norm(moved[0])
