"""Training steps that a benchmark times: ours under a configuration, or one from a user's file."""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import program_cost
from vdm.errors import ConfigError
from vdm.evaluation.evaluate import Estimation, make_evaluation_step
from vdm.models import make_family
from vdm.models.parameters import count_parameters
from vdm.runs.flops import without_loops
from vdm.runs.parts import Parts
from vdm.runtime import devices
from vdm.types import Batch

NUM_IMAGES = 1024
"""Random images that stand for a training split."""


@dataclasses.dataclass
class Candidate:
    """One row of a benchmark.

    Attributes:
      name: of the row.
      facts: numbers known before it is timed: seconds to compile, bytes, parameters.
      train: makes one training step and returns arrays to wait for.
      evaluate: evaluates the bound of one batch, likewise; None where evaluation is not timed.
    """

    name: str
    facts: dict[str, Any]
    train: Callable[[], Any]
    evaluate: Callable[[], Any] | None = None


def random_batch(shape: tuple[int, int, int], num_levels: int, batch_size: int) -> Batch:
    """Return a batch of random integers [B,H,W,C] on the host; `shape` is (H, W, C)."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, num_levels, (batch_size, *shape))
    return Batch(
        images=images.astype(np.uint8 if num_levels <= 256 else np.uint16),
        index=np.arange(batch_size, dtype=np.int32),
        mask=np.ones(batch_size, bool),
        conditioning=np.zeros(batch_size, np.float32),
    )


def ours(name: str, parts: Parts, with_evaluation: bool) -> Candidate:
    """Compile our training step, and the evaluation if wanted, for one configuration.

    Args:
      name: of the row.
      parts: configuration, model, data and mesh.
      with_evaluation: whether the evaluation is timed too.
    """
    started = time.perf_counter()
    state = jax.block_until_ready(parts.fresh_state())
    initialise = time.perf_counter() - started

    batch = parts.train_batch(0)
    compiled, facts = compile_timed(parts.train_step(), state, batch)
    images = parts.config["train"]["batch_size"] * parts.steps_per_call
    facts |= {
        "images_per_call": images,
        "steps_per_call": parts.steps_per_call,
        "initialise_seconds": initialise,
        "num_parameters": count_parameters(state.params),
        "state_bytes_per_device": devices.bytes_per_device(state),
    }
    # A list, because every step donates the buffers of the state it takes.
    holder = [state]

    def train():
        holder[0], metrics = compiled(holder[0], batch)
        return metrics

    candidate = Candidate(name, facts, train)
    if with_evaluation:
        candidate.evaluate = _our_evaluation(parts, holder, facts)
    return candidate


def _our_evaluation(parts: Parts, holder: list, facts: dict) -> Callable[[], Any]:
    """Compile the evaluation of one batch under the state in `holder`; its costs go into `facts`."""
    host = random_batch(
        parts.model.shape, parts.model.num_levels, parts.config["train"]["batch_size"]
    )
    batch = devices.place_batch(host, parts.mesh)
    step = make_evaluation_step(
        parts.model, Estimation(parts.config["objective"]["num_timesteps"]), parts.mesh
    )
    zero = np.int32(0)
    compiled, costs = compile_timed(step, holder[0].ema_params, batch, zero, zero)
    facts["evaluation"] = costs
    return lambda: compiled(holder[0].ema_params, batch, zero, zero)


def flops_per_image(parts: Parts) -> dict[str, float | None]:
    """Return the FLOPs of training and evaluation per image.

    They are of the program without loops and recomputation, so that configurations which differ in
    memory alone have the same count.
    """
    config = plain(parts.config)
    bare = dataclasses.replace(parts, config=config, model=make_family(parts.dataset.spec, config))
    state, size = bare.abstract_state(), config["train"]["batch_size"]
    host = random_batch(bare.model.shape, bare.model.num_levels, size)
    train = bare.train_step()
    evaluate = make_evaluation_step(
        bare.model, Estimation(config["objective"]["num_timesteps"]), bare.mesh
    )
    zero = np.int32(0)
    return {
        "train_matmul_flops": program_cost.matmul_flops(train, state, host) / size,
        "train_xla_flops": _per(program_cost.xla_flops(train, state, host), size),
        "evaluate_matmul_flops": program_cost.matmul_flops(
            evaluate, state.ema_params, host, zero, zero
        )
        / size,
    }


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` without loops over blocks or images, recomputation, or several steps per call."""
    config = without_loops(config)
    options = config["denoiser"][config["denoiser"]["name"]]
    if "remat" in options:
        options["remat"] = False
    return {**config, "train": {**config["train"], "num_microbatches": 1, "steps_per_call": 1}}


def _per(total: float | None, size: int) -> float | None:
    """Return total/size, None for an unknown total."""
    return None if total is None else total / size


def other(module: Any, config: Mapping[str, Any], batch: Batch, with_evaluation: bool) -> Candidate:
    """Return the training step that a user's file defines, see `load`.

    `make_step(config, batch)` gives either a function without arguments that makes one training step
    and waits for it, or (function, state) where jax.jit(function)(state, batch) -> (state, metrics).
    `make_evaluation(config, batch)`, if there is one, likewise; its function returns (state, values).

    Args:
      module: the user's module.
      config: the configuration of the first row.
      batch: random images, the same for all rows.
      with_evaluation: whether the evaluation is timed too.
    """
    facts: dict[str, Any] = {"images_per_call": len(batch.index)}
    train = _user_step(module.make_step(config, batch), batch, facts)
    candidate = Candidate(Path(module.__file__).stem, facts, train)
    if with_evaluation and hasattr(module, "make_evaluation"):
        facts["evaluation"] = {}
        made = module.make_evaluation(config, batch)
        candidate.evaluate = _user_step(made, batch, facts["evaluation"])
    return candidate


def load(path: str) -> Any:
    """Import the Python file at `path`.

    Raises:
      ConfigError: no such file, or one that does not define make_step.
    """
    if not Path(path).is_file():
        raise ConfigError(f"--other={path}: no such file; give a Python file with make_step")
    spec = importlib.util.spec_from_file_location("other_implementation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "make_step", None)):
        raise ConfigError(f"--other={path}: defines no make_step(config, batch); add it")
    return module


def _user_step(made: Any, batch: Batch, facts: dict) -> Callable[[], Any]:
    """Return a function that takes one step of a user's training program; costs go into `facts`."""
    if not isinstance(made, tuple):
        # Nothing of it can be inspected: its first call holds whatever it compiles.
        started = time.perf_counter()
        made()
        facts["first_call_seconds"] = time.perf_counter() - started
        return made

    function, state = made
    placed = jax.tree.map(jnp.asarray, batch)
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "size")]
    facts["state_bytes_per_device"] = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    jitted = function if hasattr(function, "lower") else jax.jit(function, donate_argnums=0)
    compiled, costs = compile_timed(jitted, state, placed)
    facts |= costs
    holder = [state]

    def step():
        holder[0], values = compiled(holder[0], placed)
        return values

    return step


def compile_timed(jitted: Any, *args: Any) -> tuple[Any, dict[str, Any]]:
    """Compile a jitted function for its arguments.

    Returns:
      The compiled program, and its facts: seconds to trace, lower and compile, memory in bytes, and the
      exchange between devices.
    """
    times, cpu = [time.perf_counter()], time.process_time()
    traced = jitted.trace(*args)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    compiled = lowered.compile()
    times.append(time.perf_counter())
    names = ("trace_seconds", "lower_seconds", "compile_seconds")
    facts: dict[str, Any] = dict(zip(names, np.diff(times).tolist(), strict=True))
    facts["build_cpu_seconds"] = time.process_time() - cpu
    return compiled, facts | program_cost.memory(compiled) | {
        "collectives": program_cost.collectives(compiled)
    }
