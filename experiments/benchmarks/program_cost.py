"""What a program costs on paper: arithmetic from its shapes, memory and communication as compiled."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# The functions of vdm/networks/cpu/winograd.py, by their names in a compiled program:
_TILES, _TILES_GRADIENT = "conv_by_tiles", "kernel_gradient_by_tiles"
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}


def matmul_flops(function: Callable, *args: Any) -> int:
    """Floating-point operations of all matrix products and convolutions in one call.

    Counted from shapes, 2 per multiplication with addition; nothing is compiled. A scan counts as often
    as it runs, a branch as its dearest one, a loop of unknown length once.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr)


def _jaxpr_flops(jaxpr: Any) -> int:
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        depth = math.prod(shape[axis] for axis in contracted)
        return 2 * depth * equation.outvars[0].aval.size
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        # What falls on padding or between dilated entries is work too, for the kernels there are.
        return 2 * equation.outvars[0].aval.size * kernel.size // outputs
    if params.get("name") == _TILES:
        # What a convolution takes, so that the count is the model's on any device.
        kernel = equation.invars[1].aval
        return 2 * equation.outvars[0].aval.size * math.prod(kernel.shape[:3])
    if params.get("name") == _TILES_GRADIENT:
        return 2 * equation.outvars[0].aval.size * math.prod(equation.invars[0].aval.shape[:3])
    inner = [_jaxpr_flops(sub) for value in params.values() for sub in _jaxprs(value)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> Iterator[Any]:
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield value.jaxpr
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _jaxprs(item)


def xla_flops(function: Any, *args: Any) -> float | None:
    """XLA's own count of all operations in one call, before it optimises; None where it gives none.

    It counts a loop's body once, so give it the program without loops.
    """
    found = function.lower(*args).cost_analysis()
    found = found[0] if isinstance(found, list) else found
    return float(found["flops"]) if found and "flops" in found else None


def memory(compiled: Any) -> dict[str, int]:
    """Bytes on one device: temporaries, arguments, and results that take no argument's place."""
    found = compiled.memory_analysis()
    if found is None:
        return {}
    return {
        "temporary_bytes": int(found.temp_size_in_bytes),
        "argument_bytes": int(found.argument_size_in_bytes),
        "result_bytes": int(found.output_size_in_bytes - found.alias_size_in_bytes),
    }


def collectives(compiled: Any) -> dict[str, dict[str, int]]:
    """{operation: {"count", "bytes"}}: what devices exchange in one call; a loop's body counts once."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    pattern = rf"= (\(.*?\)|\S+) ({'|'.join(_COLLECTIVES)})(?:-start)?\("
    for shape, name in re.findall(pattern, compiled.as_text()):
        counts[name] += 1
        sizes[name] += sum(_num_bytes(*found) for found in re.findall(r"(\w+)\[([\d,]*)\]", shape))
    return {name: {"count": counts[name], "bytes": sizes[name]} for name in counts}


def _num_bytes(dtype: str, shape: str) -> int:
    return _BYTES.get(dtype, 4) * int(np.prod([int(n) for n in shape.split(",") if n], dtype=int))
