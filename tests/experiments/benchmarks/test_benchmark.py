"""Counts, inputs and records of the benchmark, but no measured time."""

import json

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import model, peak_flops, program_cost
from experiments.cli.parsing import load_config
from vdm.errors import ConfigError
from vdm.networks import make_denoiser
from vdm.networks.cpu.conv3x3 import conv_for_training
from vdm.types import Known

OTHER = """
import jax.numpy as jnp

def make_step(config, batch):
    assert batch.images.shape == (16, 4, 5, 2)
    def step(state, batch):
        return state + 1.0, jnp.sum(batch.images)
    return step, jnp.zeros(())

def make_evaluation(config, batch):
    return lambda: None
"""


@pytest.mark.parametrize(("channels", "width"), [(8, 5), (64, 4)])  # the second takes tiles
def test_arithmetic_of_the_unet_is_that_of_its_layers(channels, width):
    """Against the sum over layers by hand: 2 x inputs x outputs x positions each."""
    blocks, height, batch = 3, 6, 2
    options = {"channels": channels, "num_blocks": blocks, "fourier_exponents": (6, 7)}
    inputs = (
        jnp.zeros((batch, height, width, 3)),
        jnp.zeros((batch, 1, 1, 1)),
        Known(jnp.zeros(batch)),
        False,
    )
    positions = height * width
    conv = lambda a, b: 2 * 9 * a * b * positions  # noqa: E731
    dense = lambda a, b: 2 * a * b  # noqa: E731
    cond = dense(4 * channels, channels)
    block = 2 * conv(channels, channels) + cond
    joined = conv(2 * channels, channels) + conv(channels, channels) + cond
    joined += dense(2 * channels, channels) * positions
    attention = 4 * dense(channels, channels) * positions + 2 * dense(
        positions, channels * positions
    )
    expected = conv(15, channels) + conv(channels, 3) + (blocks + 2) * block + (blocks + 1) * joined
    expected += attention + dense(channels + 1, 4 * channels) + dense(4 * channels, 4 * channels)
    for unroll in (True, False):
        module = make_denoiser("unet", 256, {**options, "unroll": unroll})
        shapes = jax.eval_shape(lambda m=module: m.init(jax.random.key(0), *inputs))
        counted = program_cost.matmul_flops(lambda p, m=module: m.apply(p, *inputs), shapes)
        assert counted == batch * expected


@pytest.mark.parametrize("channels", [8, 64])  # the second takes tiles
def test_both_gradients_of_a_convolution_count_as_much_as_itself(channels):
    x, kernel = jnp.ones((2, 4, 6, channels)), jnp.ones((3, 3, channels, channels))
    found = program_cost.matmul_flops(jax.vjp(conv_for_training, x, kernel)[1], x)
    assert found == 2 * (2 * 9 * channels**2 * 2 * 4 * 6)


def test_gradients_count_too():
    a, b = jnp.ones((4, 8)), jnp.ones((8, 16))
    forward = 2 * 4 * 8 * 16
    assert program_cost.matmul_flops(jnp.matmul, a, b) == forward
    loss = lambda a, b: jnp.sum(jnp.square(a @ b))  # noqa: E731
    assert program_cost.matmul_flops(jax.grad(loss, argnums=(0, 1)), a, b) == 3 * forward


def test_collectives_of_a_compiled_program():
    class Compiled:
        def as_text(self):
            return (
                "  %a = (f32[8,4]{1,0}, bf16[3]{0}) all-reduce(%x, %y), channel_id=1\n"
                "  ROOT %b = f32[16]{0} all-gather(f32[2]{0} %z), dimensions={0}\n"
                "  %c = f32[] add(%all-reduce.1, %d)\n"
            )

    assert program_cost.collectives(Compiled()) == {
        "all-reduce": {"count": 1, "bytes": 8 * 4 * 4 + 3 * 2},
        "all-gather": {"count": 1, "bytes": 64},
    }


def test_median_and_spread():
    assert peak_flops.median_and_spread([4.0, 1.0, 2.0, 3.0, 5.0]) == (3.0, 1.0)


def test_grid_gives_every_combination():
    config = load_config("configs/base.py")
    text = "denoiser.unet.remat=true,false; train.batch_size=4,8; denoiser.unet.unroll=none,true"
    found = model.read_grid(text, config)
    assert list(found)[:3] == [
        "remat=true batch_size=4 unroll=none",
        "remat=true batch_size=4 unroll=true",
        "remat=true batch_size=8 unroll=none",
    ]
    last = found["remat=false batch_size=8 unroll=true"]
    unet = last["denoiser"]["unet"]
    assert (unet["remat"], unet["unroll"], last["train"]["batch_size"]) == (False, True, 8)
    assert found["remat=true batch_size=4 unroll=none"]["denoiser"]["unet"]["unroll"] is None
    assert config.train.batch_size == 128 and config.denoiser.unet.unroll is None
    assert model.read_grid(" ", config) == {"ours": config.to_dict()}
    for wrong in (
        "train.batchsize=1",
        "train.batch_size",
        "train.batch_size=",
        "train.batch_size=none",
    ):
        with pytest.raises(ConfigError, match=r"train\.batch_?size"):
            model.read_grid(wrong, config)


@pytest.mark.parametrize("shape", ["32,32", "32,32,x", "0,1,1"])
def test_image_shape_that_is_none(shape):
    with pytest.raises(ConfigError, match="height,width,channels"):
        model.read_shape(shape.split(","))


@pytest.mark.slow
def test_benchmark_times_ours_and_another_in_turns(fork_python, tmp_path):
    (tmp_path / "other.py").write_text(OTHER)
    words = ["-m", "experiments.benchmark", "--config=configs/base.py", "--image_shape=4,5,2"]
    words += ["--config.denoiser.name=mlp", "--config.denoiser.mlp.width=8", "--num_levels=16"]
    words += ["--config.train.batch_size=16", "--rounds=2", f"--out={tmp_path}/found.json"]
    words += [f"--other={tmp_path}/other.py"]
    done = fork_python(words, devices=2)
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["rows"]) == {"ours", "other"} and found["devices"] == 2
    ours = found["rows"]["ours"]
    assert len(ours["train_seconds"]) == len(found["rows"]["other"]["train_seconds"]) == 2
    assert ours["train_images_per_second"] > 0 and ours["evaluate_images_per_second"] > 0
    assert ours["collectives"]["all-reduce"]["bytes"] > 0
    # 8 -> 8 in 4 blocks, thrice for training, at the least.
    assert found["flops_per_image"]["train_matmul_flops"] > 3 * 4 * 3 * 2 * 8 * 8
    assert "ours" in done.stdout and "all-reduce" in done.stdout


def test_another_without_make_step_is_refused(fork_python, tmp_path):
    (tmp_path / "other.py").write_text("x = 1\n")
    words = ["-m", "experiments.benchmark", "--config=configs/base.py", "--image_shape=2,2,1"]
    words += ["--config.denoiser.name=mlp", "--config.denoiser.mlp.width=8"]
    words += ["--config.denoiser.mlp.num_blocks=0"]
    done = fork_python([*words, f"--other={tmp_path}/other.py"], devices=1, check=False)
    assert done.returncode == 2
    assert "defines no make_step(config, batch)" in done.stderr.splitlines()[-1]
