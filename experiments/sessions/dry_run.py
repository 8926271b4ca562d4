"""`train --dry_run`: sizes, memory and one step of a configuration, without writing anything."""

import tempfile
import time
from typing import Any

import jax

from vdm.data import RECIPES
from vdm.data.base import NotPrepared
from vdm.models.parameters import count_parameters
from vdm.runs.dataset import open_dataset
from vdm.runs.parts import Config, Parts, build
from vdm.runtime import devices

_MIB = 2.0**20


def run(config: Config) -> None:
    """Print data, sizes and memory, and take one step from fresh parameters.

    Args:
      config: the whole configuration, as a nested dictionary.

    Raises:
      VdmError: whatever would stop the run at its start.
    """
    # Even a data set that is not prepared yet goes where it vanishes again.
    with tempfile.TemporaryDirectory() as empty:
        parts = build(config if _is_prepared(config) else _with_cache(config, empty))
        _describe(parts)
        _one_step(parts)
    print("dry run: nothing was written")


def _is_prepared(config: Config) -> bool:
    """Return whether the data lie in the cache and are found there without reading their source."""
    data = config["data"]
    if data["name"].partition(":")[0] not in RECIPES:
        return False
    try:
        open_dataset(data, data["cache_dir"], prepare=False)
    except NotPrepared:
        return False
    return True


def _with_cache(config: Config, folder: str) -> dict[str, Any]:
    """Return the configuration with `folder` as data.cache_dir."""
    return {**config, "data": {**config["data"], "cache_dir": folder}}


def _describe(parts: Parts) -> None:
    """Print the data set, the number of parameters, and the bytes of the training state."""
    spec, state = parts.dataset.spec, parts.abstract_state()
    sizes = ", ".join(f"{name} {size}" for name, size in spec.split_sizes.items())
    print(f"data: {spec.name}, shape {spec.shape}, {spec.num_levels} levels, images: {sizes}")
    print(f"content hash: {spec.content_hash}")
    for branch, params in state.params.items():
        print(f"parameters of the {branch}: {count_parameters(params):,}")
    print(f"training state: {devices.bytes_per_device(state) / _MIB:.1f} MiB on each device")


def _one_step(parts: Parts) -> None:
    """Compile the training step and take it once; print seconds, memory and metrics."""
    batch = parts.train_batch(0)
    state = parts.fresh_state()

    # Compiled ahead of the call, because only a compiled program reports its planned memory.
    started = time.monotonic()
    compiled = parts.train_step().lower(state, batch).compile()  # type: ignore[attr-defined]
    print(f"compiled the training step in {time.monotonic() - started:.1f} s")
    if memory := compiled.memory_analysis():
        print(f"memory of a step besides the state: {memory.temp_size_in_bytes / _MIB:.0f} MiB")

    # Until the numbers are there: calls return before the device is done.
    started = time.monotonic()
    _, metrics = jax.block_until_ready(compiled(state, batch))
    images = parts.config["train"]["batch_size"] * parts.steps_per_call
    print(f"one step of {images} images took {time.monotonic() - started:.2f} s")
    for name, value in sorted(metrics.items()):
        print(f"  {name}: {float(value.reshape(-1)[-1]):.5g}")
