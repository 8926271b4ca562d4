"""The mesh of devices, and how arrays are laid over it.

The mesh has two axes. A batch is split over both. Parameters, with the optimizer's state and the
averages, are split over the second (fully sharded data parallelism) and copied along the first;
the second has one device unless a configuration says otherwise. Every process runs the same
program and holds its own part; devices are in the order of their processes, so that the part of a
batch that process p needs is the p-th of equal, contiguous shares.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vdm.errors import ConfigError

DATA_AXIS, PARAMETER_AXIS = "data", "parameters"
"""Names of the mesh's two axes."""
MIN_SPLIT_SIZE = 1024
"""Scalars that an array must hold to be split; smaller ones are copied to every device."""
MIN_REFUSED_SIZE = 2**16
"""Scalars of an array from which it is an error that it cannot be split; smaller ones are copied."""
_MIN_BFLOAT16_CAPABILITY = 8.0
"""Least CUDA compute capability of GPUs that multiply in bfloat16 (Ampere)."""


def make_mesh(num_devices: int | None = None, parameter_shards: int = 1) -> Mesh:
    """Return a mesh of `num_devices` devices, or of all devices of all processes for None.

    Args:
      num_devices: size of the mesh; a program of several processes must use all.
      parameter_shards: length of the second axis, over which parameters are split; 1 copies them.

    Raises:
      ConfigError: there are not so many devices, or `parameter_shards` does not divide them.
    """

    # In the order of the processes, so that every process's share of a batch is contiguous.
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = len(available) if num_devices is None else num_devices
    if not 1 <= count <= len(available):
        raise ConfigError(
            f"num_devices={count}: this process sees {len(available)} devices; "
            f"choose 1 to {len(available)}"
        )

    # A process without a device in the mesh would have to skip every collective operation.
    if jax.process_count() > 1 and count < len(available):
        raise ConfigError(
            f"num_devices={count}: {jax.process_count()} processes share {len(available)} devices, "
            "and each takes part with all of its own; leave num_devices out"
        )
    if not 1 <= parameter_shards <= count or count % parameter_shards:
        divisors = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise ConfigError(
            f"parameter_shards={parameter_shards}: must divide the number of devices, {count}; "
            f"choose one of {divisors}"
        )

    # Neighbouring devices share parameters: they exchange most, and are most often on one host.
    grid = np.array(available[:count]).reshape(count // parameter_shards, parameter_shards)
    # Explicit axes, JAX's other kind, make Linen's Dropout fail.
    return Mesh(grid, (DATA_AXIS, PARAMETER_AXIS), axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh, leading_axes: int = 0) -> NamedSharding:
    """Return the sharding that splits the batch axis over all devices, after `leading_axes` others."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading_axes, (DATA_AXIS, PARAMETER_AXIS)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that puts the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(tree: Any, mesh: Mesh) -> Any:
    """Return the sharding of every array of `tree` (parameters, optimizer state, averages).

    An array of MIN_SPLIT_SIZE scalars or more is split along its longest axis that the parameter
    axis divides, the last of equals. Where none can be split it is copied if it is small, such as
    the numbers of a schedule for odd images.

    Raises:
      ConfigError: an array of MIN_REFUSED_SIZE scalars or more has no axis that can be split.
    """
    shards = mesh.shape[PARAMETER_AXIS]
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    specs = [_spec(jax.tree_util.keystr(path), leaf.shape, shards) for path, leaf in leaves]
    return jax.tree.unflatten(structure, [NamedSharding(mesh, spec) for spec in specs])


def _spec(name: str, shape: tuple[int, ...], shards: int) -> PartitionSpec:
    """Return the axis of an array that is split, as a PartitionSpec; an empty one copies it."""
    if shards == 1 or np.prod(shape) < MIN_SPLIT_SIZE:
        return PartitionSpec()
    divisible = [axis for axis, size in enumerate(shape) if size % shards == 0]
    if not divisible and np.prod(shape) < MIN_REFUSED_SIZE:
        return PartitionSpec()
    if not divisible:
        raise ConfigError(
            f"parameter_shards={shards}: divides no axis of {name} with shape {shape}; "
            "choose a divisor of the network's width"
        )
    axis = max(divisible, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*(None,) * axis, PARAMETER_AXIS)


def constrain(tree: Any, shardings: Any) -> Any:
    """Lay out `tree` by a sharding, or by a tree of them, within a compiled program."""
    return jax.lax.with_sharding_constraint(tree, shardings)


def check_divisible(argument: str, batch_size: int, mesh: Mesh, num_microbatches: int = 1) -> None:
    """Raise ConfigError unless every device gets the same number of images in every microbatch.

    Args:
      argument: name of the option, for the message.
      batch_size: images in the global batch.
      mesh: the mesh over which the batch is split.
      num_microbatches: microbatches into which each batch is cut.
    """
    devices = mesh.devices.size
    count = devices * num_microbatches
    if batch_size < 1 or batch_size % count:
        # The nearest multiple, so that the message offers a batch of about the size that was
        # meant.
        nearest = max(count, round(batch_size / count) * count)
        parts = f" in {num_microbatches} microbatches" if num_microbatches > 1 else ""
        raise ConfigError(
            f"{argument}={batch_size}: {devices} devices cannot share it evenly{parts}; "
            f"choose a multiple of {count} such as {nearest}"
        )


def check_dtype(field: str, dtype: str, mesh: Mesh) -> None:
    """Raise ConfigError if `dtype` is bfloat16 and the devices of `mesh` cannot multiply in it."""
    device = mesh.devices.flat[0]
    capability = float(getattr(device, "compute_capability", None) or _MIN_BFLOAT16_CAPABILITY)
    if dtype == "bfloat16" and device.platform == "gpu" and capability < _MIN_BFLOAT16_CAPABILITY:
        raise ConfigError(
            f"{field}={dtype!r}: {device.device_kind} (compute capability {capability}) has no "
            "bfloat16; choose float32"
        )


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Copy host arrays [B, ...] to the devices, split over the batch axis, asynchronously.

    Every process passes the whole batch, and keeps its share.
    """
    index, count = jax.process_index(), jax.process_count()
    return place_share(
        jax.tree.map(lambda a: a[len(a) * index // count : len(a) * (index + 1) // count], batch),
        mesh,
    )


def place_share(batch: Any, mesh: Mesh, leading_axes: int = 0) -> Any:
    """Copy a batch as `place_batch` does, where each process passes its own share only.

    The shares follow one another in the order of the processes.

    Args:
      batch: a tree of host arrays, this process's share.
      mesh: the mesh.
      leading_axes: axes before the batch axis, which are not split.
    """
    sharding = batch_sharding(mesh, leading_axes)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    place = jax.make_array_from_process_local_data
    return jax.tree.map(lambda share: place(sharding, np.asarray(share)), batch)


def abstract_like(tree: Any, shardings: Any) -> Any:
    """Return shapes and dtypes of `tree` without arrays, under one sharding or a tree of them."""
    if isinstance(shardings, NamedSharding):
        sharding = shardings
        shardings = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings
    )


def to_host(tree: Any) -> Any:
    """Copy a tree of device arrays to numpy; every process must call it."""
    return jax.tree.map(gather, tree)


def gather(array: Any) -> np.ndarray:
    """Return the whole array as numpy, wherever its parts lie; every process must call it."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def options_of(config: Mapping) -> dict[str, Any]:
    """Return the arguments of `make_mesh` from section "devices" of a configuration, if it has one."""
    return dict(config.get("devices", {}))


def bytes_per_device(tree: Any) -> int:
    """Return the bytes that the arrays of `tree`, which may be abstract, take on one device."""
    sizes = (
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
    return sum(sizes)
