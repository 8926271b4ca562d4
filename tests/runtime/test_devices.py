"""Meshes, and the same randomness however a batch is laid over devices."""

import ast
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.runtime import devices

SAME_EVERYWHERE = """
import jax, jax.numpy as jnp, numpy as np
from vdm.runtime import devices
from vdm.models.vdm import noise

assert len(jax.devices()) == 8

def draw(key, index):
    times = noise.stratified_times(key, 24)
    training = noise.training_noise(key, 24, (4, 2, 3))
    return times, training, noise.evaluation_noise(5, 1, 2, index, (4, 2, 3))

key, index = jax.random.key(11), np.arange(24)
expected = jax.tree.map(np.asarray, draw(key, jnp.asarray(index)))
for count in (1, 2, 8):
    mesh = devices.make_mesh(count)
    sharded, whole = devices.batch_sharding(mesh), devices.replicated(mesh)
    step = jax.jit(draw, in_shardings=(whole, sharded), out_shardings=sharded)
    drawn = step(jax.device_put(key, whole), devices.place_batch(index, mesh))
    for leaf in jax.tree.leaves(drawn):
        assert len(leaf.addressable_shards) == count
        assert leaf.addressable_shards[0].data.shape[0] == 24 // count
    for a, b in zip(jax.tree.leaves(devices.to_host(drawn)), jax.tree.leaves(expected)):
        np.testing.assert_array_equal(a, b)
print("same on", count)
"""

MESHES = """
import jax, numpy as np
from vdm.runtime import devices
from vdm.errors import ConfigError

assert devices.make_mesh().devices.size == 8 and devices.make_mesh(3).devices.size == 3
assert devices.make_mesh().axis_names == ("data", "parameters")
assert devices.make_mesh(8, 4).shape == {"data": 2, "parameters": 4}
for arguments in ((8, 3), (8, 16), (6, 0)):
    try:
        devices.make_mesh(*arguments)
    except ConfigError as error:
        print(error)
for count in (0, -1, 9):
    try:
        devices.make_mesh(count)
    except ConfigError as error:
        print(error)
mesh = devices.make_mesh(4)
devices.check_divisible("batch_size", 128, mesh)
for size in (2, 6, 7, 0, -4):
    try:
        devices.check_divisible("train.batch_size", size, mesh)
    except ConfigError as error:
        print(error)
array = devices.place_batch({"a": np.arange(8)}, mesh)["a"]
print([shard.data.tolist() for shard in array.addressable_shards])
"""


def test_noise_is_the_same_on_1_2_and_8_devices(fork_python):
    assert fork_python(SAME_EVERYWHERE, devices=8).stdout.strip() == "same on 8"


def test_meshes_of_simulated_devices(fork_python):
    lines = fork_python(MESHES, devices=8).stdout.splitlines()
    divisors = {3: (8, "1, 2, 4, 8"), 16: (8, "1, 2, 4, 8"), 0: (6, "1, 2, 3, 6")}
    for line, (shards, (count, choices)) in zip(lines[:3], divisors.items(), strict=True):
        problem = f"parameter_shards={shards}: must divide the number of devices, {count}"
        assert line == f"{problem}; choose one of {choices}"
    lines = lines[3:]
    for line, count in zip(lines[:3], (0, -1, 9), strict=True):
        assert line == f"num_devices={count}: this process sees 8 devices; choose 1 to 8"
    nearest = {2: 4, 6: 8, 7: 8, 0: 4, -4: 4}
    for line, (size, near) in zip(lines[3:8], nearest.items(), strict=True):
        problem = f"train.batch_size={size}: 4 devices cannot share it evenly"
        assert line == f"{problem}; choose a multiple of 4 such as {near}"
    assert lines[8:] == ["[[0, 1], [2, 3], [4, 5], [6, 7]]"]


def test_one_device_shares_anything_but_nothing():
    mesh = devices.make_mesh(1)
    devices.check_divisible("batch_size", 1, mesh)
    devices.check_divisible("batch_size", 127, mesh)
    with pytest.raises(ConfigError, match=r"batch_size=0: .*multiple of 1 such as 1"):
        devices.check_divisible("batch_size", 0, mesh)


def test_abstract_like_keeps_shapes_and_dtypes_without_arrays():
    sharding = devices.replicated(devices.make_mesh(1))
    tree = {"a": jnp.ones((2, 3)), "b": [jnp.zeros((), jnp.int32)]}
    abstract = devices.abstract_like(tree, sharding)
    assert jax.tree.structure(abstract) == jax.tree.structure(tree)
    for leaf, array in zip(jax.tree.leaves(abstract), jax.tree.leaves(tree), strict=True):
        assert isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding == sharding
        assert (leaf.shape, leaf.dtype) == (array.shape, array.dtype)


def test_to_host_gives_numpy_arrays():
    tree = devices.to_host({"a": jnp.arange(3)})
    assert isinstance(tree["a"], np.ndarray) and tree["a"].tolist() == [0, 1, 2]


SPLIT = """
import jax, jax.numpy as jnp, numpy as np
from vdm.runtime import devices
from vdm.errors import ConfigError

mesh = devices.make_mesh(8, 4)
tree = dict(conv=jnp.zeros((3, 3, 128, 128)), stacked=jnp.zeros((8, 256, 128)), small=jnp.zeros(512),
            odd_image=jnp.zeros((45, 45, 3)), scalar=jnp.zeros(()), out=jnp.zeros((3, 3, 128, 3)))
found = devices.state_shardings(tree, mesh)
print({name: tuple(sharding.spec) for name, sharding in found.items()})
placed = jax.device_put(tree, found)
one = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(placed))
assert one == devices.bytes_per_device(placed) == 4 * (
    9 * 128 * 128 // 4 + 8 * 256 * 128 // 4 + 512 + 1 + 45 * 45 * 3 + 9 * 128 * 3 // 4)
try:
    devices.state_shardings({"odd": jnp.zeros((451, 451))}, mesh)
except ConfigError as error:
    print(error)
"""


def test_parameters_are_split_along_their_longest_axis(fork_python):
    specs, error = fork_python(SPLIT, devices=8).stdout.splitlines()
    assert ast.literal_eval(specs) == {
        "conv": (None, None, None, "parameters"),
        "stacked": (None, "parameters"),
        "small": (),
        "odd_image": (),
        "scalar": (),
        "out": (None, None, "parameters"),
    }
    assert error.startswith("parameter_shards=4: divides no axis of ['odd'] with shape (451, 451)")


def test_bfloat16_is_refused_where_the_device_lacks_it():
    def mesh(**facts):
        device = types.SimpleNamespace(**facts)
        return types.SimpleNamespace(devices=np.array([device], dtype=object))

    old = mesh(platform="gpu", compute_capability="7.0", device_kind="Tesla V100")
    with pytest.raises(ConfigError, match=r"Tesla V100 \(compute capability 7.0\) has no bfloat16"):
        devices.check_dtype("config.denoiser.unet.dtype", "bfloat16", old)
    devices.check_dtype("dtype", "float32", old)
    for capability in ("8.0", "9.0", "10.0"):
        devices.check_dtype(
            "dtype", "bfloat16", mesh(platform="gpu", compute_capability=capability)
        )
    devices.check_dtype("dtype", "bfloat16", mesh(platform="tpu"))
