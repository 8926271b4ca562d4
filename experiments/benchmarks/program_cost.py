"""Static cost of a program: arithmetic from array shapes, memory and communication as compiled."""

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
    """Return the floating-point operations of all matrix products and convolutions in one call.

    Counted from array shapes, 2 per multiplication with addition; nothing is compiled. A scan counts as
    often as it runs, a conditional as its most expensive branch, a loop of unknown length once.

    Args:
      function: a function that JAX can trace.
      *args: its arguments, arrays or shapes (`jax.ShapeDtypeStruct`).
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr)


def _jaxpr_flops(jaxpr: Any) -> int:
    """Return the FLOPs of all equations of a traced program."""
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> int:
    """Return the FLOPs of one equation and of the programs inside it."""
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

    # Calls, scans and branches hold programs of their own among their parameters.
    inner = [_jaxpr_flops(sub) for value in params.values() for sub in _jaxprs(value)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> Iterator[Any]:
    """Yield the traced programs in a parameter of an equation, closed ones unwrapped."""
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield value.jaxpr
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _jaxprs(item)


def xla_flops(function: Any, *args: Any) -> float | None:
    """Return XLA's count of all operations in one call before optimisation; None where it gives none.

    XLA counts a loop's body once, so the program should be one without loops, see `candidates.plain`.

    Args:
      function: a jitted function.
      *args: its arguments.
    """
    analysis = function.lower(*args).cost_analysis()
    # Some backends return a list with one entry per program.
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    return float(analysis["flops"]) if analysis and "flops" in analysis else None


def memory(compiled: Any) -> dict[str, int]:
    """Return bytes on one device: temporaries, arguments, and results not written over arguments."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return {}
    return {
        "temporary_bytes": int(analysis.temp_size_in_bytes),
        "argument_bytes": int(analysis.argument_size_in_bytes),
        "result_bytes": int(analysis.output_size_in_bytes - analysis.alias_size_in_bytes),
    }


def collectives(compiled: Any) -> dict[str, dict[str, int]]:
    """Return {operation: {"count", "bytes"}} of the exchange between devices in one call.

    Read from the compiled program's text, in which a loop's body occurs once.
    """
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    pattern = rf"= (\(.*?\)|\S+) ({'|'.join(_COLLECTIVES)})(?:-start)?\("
    for shape, name in re.findall(pattern, compiled.as_text()):
        counts[name] += 1
        sizes[name] += sum(_num_bytes(*array) for array in re.findall(r"(\w+)\[([\d,]*)\]", shape))
    return {name: {"count": counts[name], "bytes": sizes[name]} for name in counts}


def _num_bytes(dtype: str, shape: str) -> int:
    """Return the size of an array such as ("f32", "8,32,32,3"); 4 bytes for a dtype not in _BYTES."""
    return _BYTES.get(dtype, 4) * int(np.prod([int(n) for n in shape.split(",") if n], dtype=int))
