"""The mesh of devices, and how arrays are laid over it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vdm.errors import ConfigError

DATA_AXIS = "data"


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh with one data axis over `num_devices` devices (None: all of them)."""
    available = jax.devices()
    count = len(available) if num_devices is None else num_devices
    if not 1 <= count <= len(available):
        raise ConfigError(
            f"num_devices={count}: this process sees {len(available)} devices; "
            f"choose 1 to {len(available)}"
        )
    # jax.make_mesh defaults to explicit axes, under which Linen's Dropout fails.
    return jax.make_mesh(
        (count,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=available[:count]
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the data axis."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_divisible(argument: str, batch_size: int, mesh: Mesh) -> None:
    """ConfigError unless every device gets the same number of images."""
    count = mesh.devices.size
    if batch_size < 1 or batch_size % count:
        nearest = max(count, round(batch_size / count) * count)
        raise ConfigError(
            f"{argument}={batch_size}: {count} devices cannot share it evenly; "
            f"choose a multiple of {count} such as {nearest}"
        )


def place_batch(batch, mesh: Mesh):
    """Host arrays -> device arrays sharded over the batch axis, copied asynchronously."""
    return jax.device_put(batch, batch_sharding(mesh))


def place_share(batch, mesh: Mesh):
    """As `place_batch`, where each of several processes holds its own share only.

    The shares follow one another in the order of the processes.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    place = jax.make_array_from_process_local_data
    return jax.tree.map(lambda share: place(sharding, np.asarray(share)), batch)


def abstract_like(tree, sharding: NamedSharding):
    """Shapes and dtypes of `tree` with `sharding`, without arrays: what a restore needs."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def to_host(tree):
    """Device arrays -> numpy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
