"""One run on 1, 2, 4 and 8 simulated devices, with parameters copied or split over them."""

import json

import pytest

CODE = """
import json
import jax, numpy as np
from vdm.runs.parts import build
from vdm.runs import checkpoints
from experiments.benchmarks import program_cost
from experiments.cli.parsing import load_config
from vdm.runtime import devices, hashes
from vdm.evaluation.evaluate import Estimation, make_evaluation_step
from vdm.data.batches import eval_batches
from pathlib import Path

config = load_config("configs/digits.py").to_dict()
config["denoiser"]["name"] = {network!r}
config["denoiser"]["unet"].update(channels=16, num_blocks=2, unroll={unroll})
config["denoiser"]["mlp"].update(width=64, num_blocks=1)
config["train"]["batch_size"] = 32
config["evaluate"]["batch_size"] = 8
# Adam's first steps divide a gradient by itself, which makes much of rounding.
config["optimizer"]["eps"] = 1e-3
found, restored = [], []
kept = checkpoints.open_checkpoints(Path({workdir!r}))

def parts_on(count, shards):
    config["devices"] = dict(num_devices=count, parameter_shards=shards)
    return build(config, cache_dir={cache!r})

for count, shards in {meshes}:
    parts = parts_on(count, shards)
    state = parts.fresh_state()
    compiled = parts.train_step().lower(state, parts.train_batch(0)).compile()
    losses = []
    for step in range(3):
        state, metrics = compiled(state, parts.train_batch(step))
        losses += [float(metrics["bits_per_dim"]), float(metrics["grad_norm/denoiser"])]
    evaluate = make_evaluation_step(parts.model, Estimation(), parts.mesh)
    batch = devices.place_batch(next(iter(eval_batches(parts.dataset, "test", 8))), parts.mesh)
    terms = devices.to_host(evaluate(state.ema_params, batch, np.int32(0), np.int32(0)))
    layout = jax.tree.map(lambda leaf, wanted: leaf.sharding == wanted.sharding,
                          state, parts.abstract_state())
    memory = program_cost.memory(compiled)
    found.append(dict(
        mesh=[count, shards], losses=losses, evaluated=terms.total.tolist(),
        as_asked=all(jax.tree.leaves(layout)),
        bytes=devices.bytes_per_device(state), argument_bytes=memory["argument_bytes"],
        collectives=program_cost.collectives(compiled)))
    if (count, shards) == {meshes}[-1]:
        record = dict(config=config)
        checkpoints.save_state(kept, state, record, {{}})
        before = devices.to_host(state)

for count, shards in {meshes}:
    parts = parts_on(count, shards)
    state, _ = checkpoints.restore_state(kept, parts)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), before, devices.to_host(state))
    state, metrics = parts.train_step()(state, parts.train_batch(3))
    restored.append(dict(same=all(jax.tree.leaves(same)), loss=float(metrics["bits_per_dim"])))
print(json.dumps(dict(found=found, restored=restored)))
"""
MESHES = [(1, 1), (2, 1), (4, 4), (8, 8)]
CASES = [
    ("mlp", True, [(1, 1), (8, 2)]),
    pytest.param("mlp", True, MESHES, marks=pytest.mark.nightly),
    # Compiling convolutions takes a minute. Blocks in a loop: the harder case for a partitioner.
    pytest.param("unet", False, [(1, 1), (4, 2)], marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "unroll", "meshes"), CASES)
def test_meshes_agree(fork_python, tmp_path, network, unroll, meshes):
    code = CODE.format(
        network=network,
        unroll=unroll,
        meshes=meshes,
        cache=str(tmp_path / "cache"),
        workdir=str(tmp_path / "run"),
    )
    printed = json.loads(fork_python(code, devices=8, timeout=280).stdout)
    found = printed["found"]
    for row in found:
        assert row["losses"] == pytest.approx(found[0]["losses"], rel=2e-5), row["mesh"]
        assert row["evaluated"] == pytest.approx(found[0]["evaluated"], rel=1e-4), row["mesh"]
        assert row["as_asked"], row["mesh"]
        # Batch and state are all that the program is given, so nothing is copied that is split.
        assert row["bytes"] <= row["argument_bytes"] <= row["bytes"] + 32 * 100, row["mesh"]
        if row["mesh"][0] > 1:
            exchanged = sum(kind["bytes"] for kind in row["collectives"].values())
            assert exchanged > 0
        else:
            assert row["collectives"] == {}
    one = found[0]["bytes"]
    for row in found:
        if row["mesh"][1] > 1:
            assert row["bytes"] < one / row["mesh"][1] * 1.6, row["mesh"]
    for row in printed["restored"]:
        assert row["same"]
        assert row["loss"] == pytest.approx(printed["restored"][0]["loss"], rel=1e-5)


WEAK_SCALING = """
import json
from vdm.runs.parts import build
from experiments.benchmarks import program_cost
from experiments.cli.parsing import load_config

config = load_config("configs/digits.py").to_dict()
config["denoiser"]["name"] = {network!r}
config["denoiser"]["unet"].update(channels=16, num_blocks=2, unroll=True)
config["denoiser"]["mlp"].update(width=64, num_blocks=1)
config["evaluate"]["batch_size"] = 8
for count in (1, 8):
    config["train"]["batch_size"] = 4 * count
    config["devices"] = dict(num_devices=count, parameter_shards=1)
    parts = build(config, cache_dir={cache!r})
    step = parts.train_step().lower(parts.abstract_state(), parts.train_batch(0)).compile()
    flops = step.cost_analysis()["flops"]
    print(json.dumps(dict(flops=flops, collectives=program_cost.collectives(step))))
"""


@pytest.mark.parametrize("network", ["mlp", pytest.param("unet", marks=pytest.mark.nightly)])
def test_eight_devices_do_eight_times_the_work_and_no_more(fork_python, tmp_path, network):
    """Operations per device are those of one device with its share; what is added is the sum itself."""
    code = WEAK_SCALING.format(network=network, cache=str(tmp_path / "cache"))
    printed = fork_python(code, devices=8, timeout=280).stdout.splitlines()
    one, eight = (json.loads(line) for line in printed)
    assert one["collectives"] == {} and set(eight["collectives"]) == {"all-reduce"}
    summed = eight["collectives"]["all-reduce"]["bytes"] / 4
    assert 0 <= eight["flops"] - one["flops"] <= 1.5 * summed
