"""Benchmark of training and evaluation: configurations of a grid compiled and timed in turns."""

import dataclasses
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from experiments.benchmarks import candidates, peak_flops, resident_memory
from experiments.benchmarks.candidates import Candidate
from experiments.sweeps import grid
from vdm.data import Dataset
from vdm.errors import ConfigError
from vdm.models import make_family
from vdm.networks.base import DTYPES
from vdm.runs import checks
from vdm.runs.parts import Parts, build, mesh_of
from vdm.types import DataSpec

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Extent of the timing.

    Attributes:
      rounds: how often each candidate is timed.
      calls: steps in one timing.
      evaluation: whether evaluations are timed too.
    """

    rounds: int
    calls: int
    evaluation: bool


def read_shape(words: Sequence[str]) -> tuple[int, int, int] | None:
    """Return flag --image_shape as (height, width, channels); None where it is not given.

    Raises:
      ConfigError: not three positive integers.
    """
    if not words:
        return None
    if len(words) != 3 or not all(word.strip().isdigit() and int(word) for word in words):
        raise ConfigError(f"--image_shape={','.join(words)}: give height,width,channels as 32,32,3")
    height, width, channels = (int(word) for word in words)
    return height, width, channels


def read_grid(text: str, config: config_dict.ConfigDict) -> dict[str, Config]:
    """Return {name of the combination: configuration}; {"ours": config} for an empty grid.

    Args:
      text: the grid as `experiments.sweeps.grid.read_axes` reads it.
      config: the configuration that its values override.
    """
    if not text.strip():
        return {"ours": config.to_dict()}
    points = grid.points(config, grid.read_axes(text))
    return {" ".join(_leaf(*pair) for pair in p.overrides.items()): p.config for p in points}


def _leaf(field: str, value: str) -> str:
    """Return the last word of a dotted field with its value, for the name of a row."""
    return f"{field.rpartition('.')[2]}={value}"


def random_spec(shape: tuple[int, int, int], num_levels: int) -> DataSpec:
    """Return the specification of random images; `shape` is (H, W, C)."""
    return DataSpec("random", shape, num_levels, {"train": candidates.NUM_IMAGES}, "")


def out_path(text: str) -> Path:
    """Return flag --out as a path.

    Raises:
      ConfigError: a folder, or a file in a folder that does not exist.
    """
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"--out={text}: give a file in a folder that exists, as benchmark.json")
    return path


def run(
    configs: Mapping[str, Config], others: Sequence[str], spec: DataSpec | None, timing: Timing
) -> dict[str, Any]:
    """Compile and time all candidates.

    Args:
      configs: {name of the row: configuration}; the first is what the others are compared with.
      others: paths of users' files, see `candidates.load`.
      spec: specification of random images in place of the configuration's data; None = those data.
      timing: rounds and calls.

    Returns:
      Everything measured, JSON-able; `experiments.benchmarks.table` shows it.
    """
    # Users' files first: a mistake in one should not cost the compilation of the rest.
    modules = [candidates.load(path) for path in others]
    parts = {name: _parts(config, spec) for name, config in configs.items()}
    first = next(iter(parts.values()))
    model, size = first.model, first.config["train"]["batch_size"]

    # All are compiled before any is timed: compilation would disturb the timing of the others.
    compared = []
    for name, part in parts.items():
        compared.append(candidates.ours(name, part, timing.evaluation))
        _say(f"compiled {name}")
    batch = candidates.random_batch(model.shape, model.num_levels, size)
    for module in modules:
        compared.append(candidates.other(module, first.config, batch, timing.evaluation))

    seconds = _time_in_turns(compared, timing)
    # On an accelerator a step's memory is not the process's.
    if jax.default_backend() == "cpu":
        for candidate in compared:
            candidate.facts["resident_bytes"] = resident_memory.growth_bytes(candidate.train)
    flops = candidates.flops_per_image(first)
    return {
        "image_shape": list(model.shape),
        "num_levels": model.num_levels,
        "devices": first.mesh.devices.size,
        "flops_per_image": flops,
        "peaks": _peaks(first),
        "peak_memory_bytes": _peak_memory(),
        "rows": {c.name: _row(c, seconds[c.name], flops) for c in compared},
    }


def _parts(config: Config, spec: DataSpec | None) -> Parts:
    """Return model, data and mesh of a configuration, with random images where `spec` is given."""
    if spec is None:
        return build(config)
    checks.check(config)
    mesh = mesh_of(config)
    images = np.random.default_rng(0).integers(
        0, spec.num_levels, (candidates.NUM_IMAGES, *spec.shape)
    )
    dtype = np.uint8 if spec.num_levels <= 256 else np.uint16
    dataset = Dataset(spec, {"train": images.astype(dtype)})
    return Parts(config, dataset, make_family(spec, config), mesh)


def _time_in_turns(compared: list[Candidate], timing: Timing) -> dict[str, dict[str, list[float]]]:
    """Time all candidates in turns, so that a busy machine slows all alike.

    Returns:
      {name: {"train", "train_cpu", "evaluate"}}, seconds of one call in every round.
    """
    seconds: dict[str, dict[str, list[float]]] = {
        c.name: {"train": [], "train_cpu": [], "evaluate": []} for c in compared
    }
    # Round 0 warms up and is not counted.
    for number in range(timing.rounds + 1):
        for candidate in compared:
            wall, cpu = _seconds(candidate.train, timing.calls)
            if number:
                seconds[candidate.name]["train"].append(wall)
                seconds[candidate.name]["train_cpu"].append(cpu)
        _say(f"training: round {number} of {timing.rounds}")

    # After all training: the first call after a training step is slow whichever program makes it.
    for number in range(timing.rounds + 1 if timing.evaluation else 0):
        for candidate in compared:
            if candidate.evaluate is not None:
                wall, _ = _seconds(candidate.evaluate, timing.calls)
                seconds[candidate.name]["evaluate"] += [wall] if number else []
        _say(f"evaluation: round {number} of {timing.rounds}")
    return seconds


def _seconds(step: Any, calls: int) -> tuple[float, float]:
    """Return the (wall, processor) seconds of one call, the mean over `calls`."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        result = step()
    jax.block_until_ready(result)
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


def _peaks(parts: Parts) -> dict[str, float]:
    """Return the measured peaks of one device, FLOP/s, in the dtype that the network computes in."""
    options = parts.config["denoiser"].get(parts.config["denoiser"]["name"], {})
    dtype = DTYPES[options.get("dtype", "float32")]
    peaks = {"matmul_flops_per_second": peak_flops.matmul_flops_per_second(dtype)}
    if "channels" in options:
        # The batch of one device: a smaller convolution has a lower peak.
        size = max(1, parts.config["train"]["batch_size"] // parts.mesh.devices.size)
        peaks["convolution_flops_per_second"] = peak_flops.convolution_flops_per_second(
            dtype, size, parts.model.shape[:2], options["channels"]
        )
    return peaks


def _peak_memory() -> dict[str, int]:
    """Return the peak memory of this process in bytes, all candidates together, and of the device."""
    # getrusage counts bytes on macOS and kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        peaks["device"] = int(stats["peak_bytes_in_use"])
    return peaks


def _row(candidate: Candidate, seconds: dict[str, list[float]], flops: dict) -> dict[str, Any]:
    """Return a candidate's facts with its times and speeds.

    Args:
      candidate: the candidate.
      seconds: {"train", "train_cpu", "evaluate"}, one value per round.
      flops: FLOPs per image, see `candidates.flops_per_image`.
    """
    images = candidate.facts["images_per_call"]
    train, spread = peak_flops.median_and_spread(seconds["train"])
    row = {
        **candidate.facts,
        "train_seconds": seconds["train"],
        "train_processor_seconds": seconds["train_cpu"],
        "train_images_per_second": images / train,
        "train_relative_spread": spread / train,
        "train_flops_per_second": flops["train_matmul_flops"] * images / train,
    }
    if seconds["evaluate"]:
        size = images // max(1, candidate.facts.get("steps_per_call", 1))
        evaluate, spread = peak_flops.median_and_spread(seconds["evaluate"])
        row |= {
            "evaluate_seconds": seconds["evaluate"],
            "evaluate_images_per_second": size / evaluate,
            "evaluate_relative_spread": spread / evaluate,
        }
    return row


def _say(line: str) -> None:
    """Print progress to stderr: stdout holds the table alone."""
    print(line, file=sys.stderr, flush=True)
