"""Range of every number of a configuration, checked before anything is built.

A value outside would end in a library, in the middle of a run or after it, or train nonsense without a
word. Limits that follow from the data, the devices or another field are checked where those are known.
This file imports no JAX, so that a command line is refused at once.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vdm.errors import ConfigError
from vdm.runs.config import flatten

MAX_STEPS = 2**31 - 1
"""Most training steps: the step of a training state is an int32."""
MAX_SIZE = 2**16
"""Most features of a layer, images of a batch and samples of a grid; one matrix of both has 16 GiB."""
MAX_TIMESTEPS = 1_000_000
"""Largest T: beyond it i/T loses precision in float32; see `vdm.evaluation.bounds.base`."""
MAX_FLOAT32 = 3.4e38
"""Largest magnitude of a number that float32 does not turn into infinity."""


class Range(NamedTuple):
    """Allowed numbers of a field, or of every element of a tuple: from `least` to `most` inclusive."""

    least: float
    most: float

    def refusal(self, value: float) -> str:
        """Return what is wrong with `value`, "" where nothing is."""
        # By comparison, which nan fails: an int beyond every float makes math.isfinite raise.
        if not -math.inf < value < math.inf:
            return "must be a finite number"
        if value < self.least:
            return f"must be at least {self.least}"
        return f"must be at most {self.most}" if value > self.most else ""


ANY = Range(-MAX_FLOAT32, MAX_FLOAT32)
SEED = Range(0, 2**32 - 1)
"""A JAX key takes 32 bits, and would fold a larger seed silently."""
PERIOD = Range(0, MAX_STEPS)
SIZE = Range(1, MAX_SIZE)
TIMESTEPS = Range(0, MAX_TIMESTEPS)
RATE = Range(0, MAX_FLOAT32)
DECAY = Range(0, 0.999999)
"""A running mean with a decay of 1 never moves from its start, and float32 rounds .99999999 to 1."""
REPEATS = Range(1, 10_000)

RANGES = {
    "seed": SEED,
    # Data: the source knows the rest, such as the bits that are stored.
    "data.bits": Range(1, 16),
    "data.num_validation": Range(1, MAX_STEPS),
    "data.resize.crop": Range(0, MAX_SIZE),
    "data.resize.size": Range(0, 4096),
    "data.arrays.num_levels": Range(2, 65_536),
    # Schedules: gamma_0 and gamma_1 have their range in vdm/schedules/endpoints.py, and so have knots,
    # start and end, mean and deviation in the file of their schedule.
    "schedule.gamma_0": ANY,
    "schedule.gamma_1": ANY,
    "schedule.rank": SIZE,
    "schedule.monotone_network.num_features": SIZE,
    "schedule.piecewise_linear.num_knots": Range(1, 10_000),
    "schedule.piecewise_linear.times": Range(0, 1),
    "schedule.piecewise_linear.shares": Range(0, 1),
    "schedule.rational_spline.num_knots": Range(1, 10_000),
    "schedule.rational_spline.times": Range(0, 1),
    "schedule.rational_spline.shares": Range(0, 1),
    "schedule.sigmoid.start": ANY,
    "schedule.sigmoid.end": ANY,
    "schedule.edm.mean": ANY,
    # A wider normal distribution of ln sigma, cut to the end points, is uniform: the linear schedule.
    "schedule.edm.deviation": Range(1e-3, 1000),
    "schedule.pixel_network.num_features": SIZE,
    "schedule.conditional_polynomial.num_hidden": SIZE,
    "schedule.conditional_network.num_features": SIZE,
    "schedule.conditional_network.num_hidden": SIZE,
    "context.gaussian.num_features": SIZE,
    "context.categorical.num_variables": SIZE,
    "context.categorical.num_classes": Range(2, MAX_SIZE),
    # Relaxed variables of a lower or higher temperature are constants to float32.
    "context.categorical.temperature": Range(1e-3, 1e3),
    "context.encoder.channels": SIZE,
    "context.encoder.num_hidden": SIZE,
    "denoiser.unet.channels": SIZE,
    "denoiser.unet.num_blocks": Range(0, 1000),
    "denoiser.unet.num_groups": SIZE,
    "denoiser.unet.dropout": DECAY,
    # 2^n z is exact to a radian for |n| up to 20.
    "denoiser.unet.fourier_exponents": Range(-20, 20),
    "denoiser.mlp.width": SIZE,
    "denoiser.mlp.num_blocks": Range(0, 1000),
    "denoiser.mlp.dropout": DECAY,
    "denoiser.mlp.fourier_exponents": Range(-20, 20),
    # gamma = 2 ln sigma lies within +-24 in every schedule, see vdm/schedules/endpoints.py.
    "objective.num_timesteps": TIMESTEPS,
    "objective.weight.edm.mean": Range(-12, 12),
    "objective.weight.edm.deviation": Range(1e-2, 100),
    "objective.weight.edm.sigma_data": Range(1e-3, 1e3),
    "objective.weight.sigmoid.bias": Range(-50, 50),
    "objective.weight.truncated.gamma_min": ANY,
    "optimizer.learning_rate": RATE,
    "optimizer.schedule_learning_rate": RATE,
    "optimizer.interior_learning_rate": RATE,
    "optimizer.encoder_learning_rate": RATE,
    "optimizer.warmup_steps": PERIOD,
    "optimizer.b1": DECAY,
    "optimizer.b2": DECAY,
    # With 0, parameters without a gradient yet would take a step of 0/0.
    "optimizer.eps": Range(1e-30, MAX_FLOAT32),
    "optimizer.weight_decay": RATE,
    "optimizer.clip_norm": RATE,
    "optimizer.schedule_clip_norm": RATE,
    "optimizer.ema_decay": DECAY,
    "devices.num_devices": SIZE,
    "devices.parameter_shards": SIZE,
    "train.num_steps": Range(1, MAX_STEPS),
    "train.batch_size": SIZE,
    "train.num_microbatches": SIZE,
    # The batches of all steps of a call are in memory together.
    "train.steps_per_call": Range(1, 1000),
    "train.max_skipped_steps": Range(1, MAX_STEPS),
    "train.watchdog_seconds": Range(0, MAX_FLOAT32),
    "train.log_every_steps": PERIOD,
    "train.evaluate_every_steps": PERIOD,
    "train.save_every_steps": PERIOD,
    "train.sample_every_steps": PERIOD,
    "train.num_samples": Range(0, MAX_SIZE),
    "train.num_sample_steps": Range(1, MAX_TIMESTEPS),
    "train.keep_latest": Range(1, MAX_STEPS),
    "train.keep_best": PERIOD,
    "evaluate.num_timesteps": TIMESTEPS,
    "evaluate.batch_size": SIZE,
    "evaluate.repeats": REPEATS,
    "evaluate.randomisations": REPEATS,
    "evaluate.seed": SEED,
}
"""{field: its range}."""


def check_ranges(config: Mapping[str, Any], accepted: Mapping[str, Any] | None = None) -> None:
    """Check every number of a configuration; a field of None decides for itself.

    Args:
      config: the whole configuration, whose values have the types of the defaults.
      accepted: a configuration whose values pass, that of a run which began before a range existed.

    Raises:
      ConfigError: the first number out of its range, or one that is not finite.
    """
    passed = flatten(accepted or {})
    for field, value in flatten(config).items():
        if field in passed and passed[field] == value:
            continue
        for number in _numbers(value):
            # Numbers of a variant that the defaults do not list are its own business, if finite.
            if refusal := RANGES.get(field, ANY).refusal(number):
                raise ConfigError(f"config.{field}={value}: {refusal}")


def _numbers(value: Any) -> Iterable[float]:
    """Return the numbers in a field's value; a bool is none."""
    if isinstance(value, tuple | list):
        return [number for element in value for number in _numbers(element)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if is_number else []
