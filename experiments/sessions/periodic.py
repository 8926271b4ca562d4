"""Validation and samples during training: due at certain steps, abandoned when a signal comes.

`Validation` and `Samples` each store the last step at which they ran. The checkpoint records whether
that is its own step, so that a resumed run repeats an evaluation that a signal cut short, and logs the
same numbers as a run that was never stopped.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from experiments.sessions import goodput
from experiments.sessions.sampling import NUM_FRAMES, draw_samples, write_pictures
from vdm.errors import Preempted
from vdm.evaluation.bounds.elbo import CompiledTerms
from vdm.evaluation.evaluate import Estimation, summarise
from vdm.runs.parts import Parts
from vdm.runs.record import run_evaluation
from vdm.samplers import make_sampler, serving
from vdm.samplers.draw import SampleStep, make_sample_step
from vdm.training.state import TrainState

VALIDATION = "validation_bits_per_dim"
"""Name of the validation bound among the logged metrics; "best" checkpoints are chosen by it."""


class Validation:
    """The bound on the validation split, one randomisation with one time per image.

    Attributes:
      step: the last training step at which it was evaluated; 0 before the first.
      bits_per_dim: its value then; None before the first.
    """

    def __init__(
        self,
        parts: Parts,
        estimation: Estimation,
        compiled: CompiledTerms,
        check: Callable[[], None],
    ):
        """Args:
        parts: data, model and devices.
        estimation: how the final evaluation is estimated; T and seed are taken from it.
        compiled: the terms of the bound, which the final evaluation uses again.
        check: raises Preempted once a signal came.
        """
        self.step = 0
        self.bits_per_dim: float | None = None
        self._parts, self._compiled, self._check = parts, compiled, check
        # Cheap on purpose: it is made often, and compared only with other validations.
        self._estimation = dataclasses.replace(estimation, repeats=1, randomisations=1)

    @goodput.spending("evaluate")
    def evaluate(self, state: TrainState) -> float | None:
        """Return the bound of the averaged parameters, bits/dim; None where a signal cut it short."""
        try:
            evaluation = run_evaluation(
                self._parts,
                state.ema_params,
                "validation",
                self._estimation,
                self._compiled,
                self._check,
            )
        except Preempted:
            return None
        self.step, self.bits_per_dim = int(state.step), summarise(evaluation)["total"].mean
        return self.bits_per_dim

    def metrics(self, step: int) -> dict[str, float]:
        """Return {VALIDATION: bits/dim} to store with the checkpoint of `step`; {} for another step."""
        if self.step != step or self.bits_per_dim is None:
            return {}
        return {VALIDATION: self.bits_per_dim}


class Samples:
    """A grid of samples in samples/ of the work folder, always of the same noise.

    Attributes:
      step: the last training step at which they were drawn; 0 before the first.
    """

    def __init__(self, parts: Parts, folder: Path, check: Callable[[], None]):
        """Args:
        parts: model, devices and section "train" of the configuration.
        folder: the work folder.
        check: raises Preempted once a signal came.
        """
        self.step = 0
        self._parts, self._folder, self._check = parts, folder, check
        self._num = parts.config["train"]["num_samples"]
        self._sample_step = _make_sample_step(parts) if self._num else None

    @goodput.spending("sample")
    def draw(self, state: TrainState) -> None:
        """Draw from the averaged parameters; a signal cuts it short, and nothing is written."""
        if self._sample_step is None:
            self.step = int(state.step)
            return
        devices = self._parts.mesh.devices.size
        batch_size = -(-self._num // devices) * devices  # the next multiple of the devices
        seed = self._parts.config["seed"]
        try:
            trajectory = draw_samples(
                self._sample_step, state.ema_params, seed, self._num, batch_size, self._check
            )
        except Preempted:
            return
        name, num_levels = f"train-step{int(state.step)}", self._parts.model.num_levels
        write_pictures(self._folder / "samples", name, trajectory, num_levels)
        self.step = int(state.step)


def _make_sample_step(parts: Parts) -> SampleStep:
    sampler = make_sampler(serving(parts.model))
    num_steps = parts.config["train"]["num_sample_steps"]
    return make_sample_step(parts.model, parts.mesh, sampler, num_steps, NUM_FRAMES)
