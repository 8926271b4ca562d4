"""The benchmark behind its launcher: read the grid, compile, time in turns, put into a table."""

import ast
import copy
import dataclasses
import itertools
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import build, candidates, peaks
from experiments.candidates import Candidate
from experiments.provenance import flatten
from vdm.data import Dataset
from vdm.denoisers.base import DTYPES
from vdm.errors import ConfigError
from vdm.types import DataSpec

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Attributes:
    rounds: how often each candidate is timed.
    calls: steps in one timing.
    evaluation: whether evaluations are timed too.
    """

    rounds: int
    calls: int
    evaluation: bool


def read_shape(words: Sequence[str]) -> tuple[int, int, int] | None:
    """--image_shape as numbers; None when it is not given."""
    if not words:
        return None
    if len(words) != 3 or not all(word.strip().isdigit() and int(word) for word in words):
        raise ConfigError(f"--image_shape={','.join(words)}: give height,width,channels as 32,32,3")
    height, width, channels = (int(word) for word in words)
    return height, width, channels


def read_grid(text: str, config: Config) -> dict[str, Config]:
    """{name of the combination: configuration}; one without a name for an empty grid."""
    axes = [_read_axis(axis, config) for axis in text.split(";") if axis.strip()]
    found: dict[str, Config] = {}
    for values in itertools.product(*(values for _, values in axes)):
        changed = copy.deepcopy(dict(config))
        for (field, _), value in zip(axes, values, strict=True):
            _set(changed, field, value)
        pairs = zip(axes, values, strict=True)
        found[" ".join(f"{f.rpartition('.')[2]}={v}" for (f, _), v in pairs) or "ours"] = changed
    return found


def _read_axis(text: str, config: Config) -> tuple[str, list[Any]]:
    field, _, values = (part.strip() for part in text.partition("="))
    if field not in flatten(config) or not values:
        raise ConfigError(
            f"--grid={text}: give a field of the configuration and values, as FIELD=A,B"
        )
    return field, [_read_value(word.strip()) for word in values.split(",")]


def _read_value(word: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if word.lower() in named:
        return named[word.lower()]
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def _set(config: dict, field: str, value: Any) -> None:
    *groups, leaf = field.split(".")
    for group in groups:
        config = config[group]
    config[leaf] = value


def random_spec(shape: tuple[int, int, int], num_levels: int) -> DataSpec:
    """What random images are."""
    return DataSpec("random", shape, num_levels, {"train": candidates.NUM_IMAGES}, "")


def out_path(text: str) -> Path:
    """--out, if it can be written."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"--out={text}: give a file in a folder that exists, as benchmark.json")
    return path


def run(
    configs: Mapping[str, Config], others: Sequence[str], spec: DataSpec | None, timing: Timing
) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    modules = [candidates.load(path) for path in others]
    parts = {name: _parts(config, spec) for name, config in configs.items()}
    first = next(iter(parts.values()))
    model, size = first.model, first.config["train"]["batch_size"]
    compared = []
    for name, part in parts.items():
        compared.append(candidates.ours(name, part, timing.evaluation))
        _say(f"compiled {name}")
    batch = candidates.random_batch(model.shape, model.num_levels, size)
    for module in modules:
        compared.append(candidates.other(module, first.config, batch, timing.evaluation))
    seconds = _time_in_turns(compared, timing)
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


def _parts(config: Config, spec: DataSpec | None) -> build.Parts:
    if spec is None:
        return build.build(config)
    build.check(config)
    mesh = build.mesh_of(config)
    images = np.random.default_rng(0).integers(
        0, spec.num_levels, (candidates.NUM_IMAGES, *spec.shape)
    )
    dtype = np.uint8 if spec.num_levels <= 256 else np.uint16
    dataset = Dataset(spec, {"train": images.astype(dtype)})
    return build.Parts(config, dataset, build.assemble_model(config, spec), mesh)


def _time_in_turns(compared: list[Candidate], timing: Timing) -> dict[str, dict[str, list[float]]]:
    """{name: {"train", "train_cpu", "evaluate"}}, seconds of one call in every round."""
    found: dict[str, dict[str, list[float]]] = {
        c.name: {"train": [], "train_cpu": [], "evaluate": []} for c in compared
    }
    for candidate in compared:  # the first calls warm up
        jax.block_until_ready(candidate.train())
    for number in range(timing.rounds):
        for candidate in compared:
            wall, cpu = _seconds(candidate.train, timing.calls)
            found[candidate.name]["train"].append(wall)
            found[candidate.name]["train_cpu"].append(cpu)
        for candidate in compared if timing.evaluation else ():
            if candidate.evaluate is not None:
                if not number:
                    jax.block_until_ready(candidate.evaluate())
                found[candidate.name]["evaluate"].append(
                    _seconds(candidate.evaluate, timing.calls)[0]
                )
        _say(f"round {number + 1} of {timing.rounds}")
    return found


def _seconds(step: Any, calls: int) -> tuple[float, float]:
    """(wall, processor) seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        result = step()
    jax.block_until_ready(result)
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


def _peaks(parts: build.Parts) -> dict[str, float]:
    """FLOP/s of one device."""
    options = parts.config["denoiser"].get(parts.config["denoiser"]["name"], {})
    dtype = DTYPES[options.get("dtype", "float32")]
    found = {"matmul_flops_per_second": peaks.matmul_flops_per_second(dtype)}
    if "channels" in options:
        size = max(1, parts.config["train"]["batch_size"] // parts.mesh.devices.size)
        found["convolution_flops_per_second"] = peaks.convolution_flops_per_second(
            dtype, size, parts.model.shape[:2], options["channels"]
        )
    return found


def _peak_memory() -> dict[str, int]:
    """Of this process in all, candidates together; on an accelerator of its memory too."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        found["device"] = int(stats["peak_bytes_in_use"])
    return found


def _row(candidate: Candidate, seconds: dict[str, list[float]], flops: dict) -> dict[str, Any]:
    images = candidate.facts["images_per_call"]
    train, spread = peaks.median_and_spread(seconds["train"])
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
        evaluate, spread = peaks.median_and_spread(seconds["evaluate"])
        row |= {
            "evaluate_seconds": seconds["evaluate"],
            "evaluate_images_per_second": size / evaluate,
            "evaluate_relative_spread": spread / evaluate,
        }
    return row


def format_table(found: Mapping[str, Any]) -> str:
    """What was measured, for a reader."""
    flops, best = found["flops_per_image"], found["peaks"]
    xla = flops["train_xla_flops"]
    counted = "" if xla is None else f" ({xla / 1e9:.2f} by XLA's count of all operations)"
    lines = [
        f"per image: {flops['train_matmul_flops'] / 1e9:.2f} GFLOP to train{counted}, "
        f"{flops['evaluate_matmul_flops'] / 1e9:.2f} to evaluate",
        "measured peaks of one device, GFLOP/s: "
        + ", ".join(f"{n.partition('_')[0]} {v / 1e9:.0f}" for n, v in best.items()),
        "peak memory of this process, all rows together: "
        + ", ".join(f"{n} {v / 1e6:.0f} MB" for n, v in found["peak_memory_bytes"].items()),
        "",
        f"{'':<28} {'trace':>6} {'lower':>6} {'compile':>8} {'temp.':>8} {'state':>8} "
        f"{'train':>9} {'spread':>7} {'MFU':>6} {'ratio':>6} {'evaluate':>9} {'ratio':>6}",
        f"{'':<28} {'s':>6} {'s':>6} {'s':>8} {'MB':>8} {'MB':>8} "
        f"{'images/s':>9} {'':>7} {'':>6} {'':>6} {'images/s':>9}",
    ]
    rows = found["rows"]
    peak = best["matmul_flops_per_second"] * found["devices"]
    first = next(iter(rows.values()))
    for name, row in rows.items():
        lines.append(f"{name:<28} {_cells(row, first, peak)}")
    for name, row in rows.items():
        for kind, size in row.get("collectives", {}).items():
            lines.append(f"{name}: {size['count']} {kind} of {size['bytes'] / 1e6:.2f} MB in all")
    lines.append(
        "ratio: the first row's images/s over this one's; MFU: of the matrix product's peak"
    )
    return "\n".join(lines)


def _cells(row: Mapping[str, Any], first: Mapping[str, Any], peak: float) -> str:
    train, evaluate = row["train_images_per_second"], row.get("evaluate_images_per_second")
    before = first.get("evaluate_images_per_second")
    cells = [
        *(_number(row.get(f"{stage}_seconds"), 6, 1) for stage in ("trace", "lower")),
        _number(row.get("compile_seconds"), 8, 1),
        *(
            _number(_mega(row.get(f"{n}")), 8, 0)
            for n in ("temporary_bytes", "state_bytes_per_device")
        ),
        _number(train, 9, 2),
        f"{row['train_relative_spread']:>7.0%}",
        f"{row['train_flops_per_second'] / peak:>6.1%}",
        _number(first["train_images_per_second"] / train, 6, 2),
        _number(evaluate, 9, 2),
        _number(before / evaluate if before and evaluate else None, 6, 2),
    ]
    return " ".join(cells)


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
