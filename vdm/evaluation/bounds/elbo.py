"""The negative ELBO of any model family, term by term, as `Model.terms` computes it."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.evaluation.bounds.base import Bound, Step, from_terms
from vdm.models.base import Model
from vdm.runtime import devices
from vdm.types import TERM_NAMES, ElboTerms

CompiledTerms = Callable[..., ElboTerms]
"""(params, batch, randomisation, repeat) -> ElboTerms [B], nats."""


@dataclasses.dataclass(frozen=True)
class Elbo(Bound):
    """The negative ELBO that training minimises: of T steps, or in continuous time (T = 0).

    reconstruction + prior matching + denoising matching (+ auxiliary), see `vdm.types.ElboTerms` and
    Luo 2022 (arXiv:2208.11970), eq. 58. Each image gets `repeats` times of one low-discrepancy
    sequence, evenly spread over images and uniform in t, if the family's terms have times at all. A
    family with a fixed number of latents refuses a T.

    Attributes:
      repeats: evaluations of each image in one randomisation, averaged.
    """

    name: ClassVar[str] = "elbo"
    optional_timesteps: ClassVar[bool] = True
    takes_context: ClassVar[bool] = True
    several_processes: ClassVar[bool] = True
    configured: ClassVar[bool] = True

    repeats: int = 12

    def __post_init__(self):
        super().__post_init__()
        if self.repeats < 1:
            self.refuse("repeats", "choose an integer of at least 1")

    def record_name(self, randomisations, seed):
        """Return T, repeats, randomisations and seed as text, without the bound's name.

        The final report of a training run has this name.
        """
        steps = f"T{self.num_timesteps}" if self.num_timesteps else "continuous"
        return f"{steps}-{self.repeats}x{randomisations}-seed{seed}"

    def check(self, model, params):
        """Refuse a T that the family cannot take (ConfigError); every family has terms."""
        # Not `super().check`, whose list of supported bounds need not name the ELBO.
        del params
        model.with_timesteps(self.num_timesteps)

    def network_evaluations(self):
        return self.repeats

    def times(self, model, seed, randomisations, index):
        return model.evaluation_times(seed, self.repeats, randomisations, index)

    @property
    def row(self) -> str:
        """Name of this bound's row of the table."""
        return f"T = {self.num_timesteps}" if self.num_timesteps else "continuous time"

    def make_step(self, model, seed, mesh):
        return self.step_of(compile_terms(model, self.num_timesteps, seed, mesh))

    def step_of(self, compiled: CompiledTerms) -> Step:
        """Return the step that averages `compiled` over the repeats.

        `compiled` may be shared by bounds with other repeats, or give other terms, such as those of a
        paired comparison (`vdm.evaluation.analysis.paired`).
        """

        def step(params, batch, randomisation):
            number = np.int32(randomisation)
            terms = [
                devices.to_host(compiled(params, batch, number, np.int32(repeat)))
                for repeat in range(self.repeats)
            ]
            means = {
                n: np.mean([np.float64(getattr(t, n)) for t in terms], axis=0) for n in TERM_NAMES
            }
            return from_terms(self.row, means, self.repeats)

        return step


def compile_terms(model: Model, num_timesteps: int, seed: int, mesh: Mesh) -> CompiledTerms:
    """Return `Model.terms` with the times and noise of evaluations, compiled once over `mesh`.

    Args:
      model: any family.
      num_timesteps: T, or 0 for continuous time.
      seed: random seed of all times and noise.
      mesh: the devices; each batch must divide evenly. Parameters may be replicated or sharded.
    """
    whole, model = devices.replicated(mesh), model.with_timesteps(num_timesteps)

    def terms(params, batch, randomisation, repeat):
        params = devices.constrain(params, whole)
        noise = model.evaluation_noise(seed, randomisation, repeat, batch.index)
        return model.terms(params, batch, noise)

    shardings = (None, devices.batch_sharding(mesh), None, None)
    return jax.jit(terms, in_shardings=shardings, out_shardings=whole)
