"""The contract of a model family. Everything downstream sees this and `ElboTerms`, nothing else.

A model is a frozen, hashable record of pure functions over `params`, a dictionary of named branches. A
family defines what is abstract here; the rest has a default that fits most families. T, schedules,
weights and the like are a family's own matters.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from vdm.errors import ConfigError
from vdm.models import microbatches
from vdm.models.chain import Chain
from vdm.models.means import Metrics, mean_bits_per_dim
from vdm.models.records import ModelGradient, ModelState, Noise, Support, TermMaps, TermsFn
from vdm.types import Batch, ElboTerms, Index, Known, Latents, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Model(abc.ABC):
    """One family's model, see the module.

    Attributes:
      family: its name in `vdm.models.FAMILIES`.
      shape: (H, W, C) of an image.
      num_levels: number of integer codes per channel.
      num_microbatches: number of parts that `gradient` takes a batch in, one after another, to save
        memory; `vdm.models.make_family` sets it from `train.num_microbatches`.
    """

    family: ClassVar[str]
    shape: tuple[int, int, int]
    num_levels: int
    num_microbatches: int = dataclasses.field(default=1, kw_only=True)

    @property
    def num_dims(self) -> int:
        """D = H W C."""
        return math.prod(self.shape)

    @abc.abstractmethod
    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters, a dictionary of branches; `key` is consumed."""

    @abc.abstractmethod
    def training_noise(self, key: PRNGKey, batch_size: int) -> Noise:
        """The noise of one training step; `key` is consumed."""

    @abc.abstractmethod
    def evaluation_noise(self, seed: int, randomisation, repeat, index: Index) -> Noise:
        """The noise of images `index` [B], by (seed, randomisation, repeat, image) alone."""

    @abc.abstractmethod
    def terms(
        self,
        params: Params,
        batch: Batch,
        noise: Noise,
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
    ) -> ElboTerms:
        """The negative ELBO of every image, term by term [B], nats; padding is masked afterwards."""

    @abc.abstractmethod
    def supports(self) -> Support:
        """The bounds, samplers and codec that serve this model."""

    def facts(self) -> dict[str, Any]:
        """Facts that stand beside a number: family, T of training, dtype of the computation."""
        facts = {"family": self.family, "timesteps_train": self.timesteps_train}
        return {**facts, "dtype": "float32"}

    @property
    def timesteps_train(self) -> int | None:
        """T of the bound that training descends along, 0 = continuous time; None: no T to choose."""
        return None

    def groups(self, params: Params) -> Params:
        """The name of the optimizer's parameter group of every leaf; here that of its branch."""
        return jax.tree_util.tree_map_with_path(lambda path, _: str(path[0].key), params)

    def group_kinds(self) -> dict[str, str]:
        """{parameter group: kind of its optimizer, see `vdm.training.optimizer.KINDS`}."""
        return dict.fromkeys(jax.eval_shape(self.init, jax.random.key(0)), "network")

    def init_state(self) -> ModelState:
        """The family's state before the first step."""
        return None

    def gradient(
        self, params: Params, state: ModelState, batch: Batch, noise: Noise, key: PRNGKey
    ) -> tuple[Params, ModelState, Metrics]:
        """What training descends along, the next state, and metrics in bits/dim.

        Here the gradient of the mean total over unmasked images; `key` is for dropout.
        """

        def loss(params, batch, noise, key):
            terms = self.terms(params, batch, noise, train=True, dropout_key=key)
            means = mean_bits_per_dim(terms, batch.mask, self.num_dims)
            return means["bits_per_dim"], means

        grads, metrics = microbatches.gradient(loss, self.num_microbatches)(
            params, batch, noise, key
        )
        return grads, state, metrics

    @property
    def has_context(self) -> bool:
        """Whether terms are given a context c ~ q(c|x) of every image."""
        return False

    def sample_context(self, keys: PRNGKey) -> Any:
        """c ~ p(c) from one key per image [B]; None for a model without a context."""
        del keys
        return None

    def project(self, params: Params) -> Params:
        """Parameters moved to the nearest valid ones, after every update; here unchanged."""
        return params

    def with_timesteps(self, num_timesteps: int) -> "Model":
        """This model with a bound of T steps, or in continuous time (T = 0).

        Raises:
          ConfigError: a family whose T is not free, which is evaluated with T = 0 alone.
        """
        if num_timesteps:
            raise ConfigError(
                f"num_timesteps={num_timesteps}: a model of family {self.family!r} has no T to "
                "choose; leave it unset"
            )
        return self

    def evaluation_times(
        self, seed: int, repeats: int, randomisations: int, index: Index
    ) -> np.ndarray | None:
        """Uniform times behind the terms of `evaluation_noise` [repeats, randomisations, N].

        None for a family whose terms take no times. Estimates of errors tell apart what the times
        of all images share.
        """
        del seed, repeats, randomisations, index
        return None

    def term_maps(self, params: Params, batch: Batch, noise: Noise) -> TermMaps:
        """The terms of every image per dimension.

        Raises:
          ConfigError: the family's terms are no sums over dimensions and noise levels.
        """
        raise ConfigError(
            f"model: the terms of family {self.family!r} are no sums over pixels and noise levels"
        )

    def noise_range(self, params: Params) -> tuple[float, float] | None:
        """(lowest, highest) noise level gamma of the bound; None for a family without noise levels."""
        del params
        return None

    def paired_terms(self, gammas: tuple[float, float]) -> TermsFn:
        """`terms` whose noise is that of any other model at equal gamma within `gammas`.

        A family without noise levels is paired by image alone: its noise is its own.

        Raises:
          ConfigError: a model whose gamma differs between pixels or images.
        """
        del gammas
        return self.terms

    def chain(self, params: Params, num_timesteps: int = 0, context: Any = None) -> Chain:
        """The model as a chain of Gaussian latents, see `vdm.models.chain`.

        Args:
          params: the model's parameters.
          num_timesteps: T, for families whose T is free.
          context: what is given of every image, or None.

        Raises:
          ConfigError: the family is no such chain, or not one of this T.
        """
        raise ConfigError(f"model: family {self.family!r} is no chain of Gaussian latents")

    def as_diffusion(self, what: str) -> Any:
        """This model as a `vdm.models.diffusion_model.DiffusionModel`, for tools about noise levels.

        Raises:
          ConfigError: the family has no noise levels, which `what` is about.
        """
        raise ConfigError(
            f"{what}: is about the noise levels of a diffusion model; family {self.family!r} has none"
        )

    def predict(self, params: Params, z: Latents, gamma: Any, known: Known) -> Latents:
        """eps_hat(z, gamma) given what is known of each image: what guidance wraps.

        Raises:
          ConfigError: the family predicts no noise.
        """
        raise ConfigError(
            f"model: family {self.family!r} predicts no noise; choose another sampler"
        )


def stateless(gradient_fn: Callable) -> ModelGradient:
    """(params, batch, noise, key) -> (grads, metrics) as a gradient that hands its state on."""

    def gradient(params, state, batch, noise, key):
        grads, metrics = gradient_fn(params, batch, noise, key)
        return grads, state, metrics

    return gradient


def require_support(kind: str, name: str, model: Model) -> None:
    """ConfigError unless `model` supports `name`.

    Args:
      kind: "bounds" or "samplers".
      name: the bound's or sampler's.
      model: the model that it is to serve.
    """
    served = getattr(model.supports(), kind)
    if served is not None and name not in served:
        listed = ", ".join(served) or "none"
        raise ConfigError(
            f"{kind[:-1]}={name!r}: does not serve a model of family {model.family!r}; "
            f"choose one of {listed}"
        )


def count_parameters(params: Params) -> int:
    """Number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
