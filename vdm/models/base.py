"""Contract of a model family; everything downstream sees this and `ElboTerms`, nothing else.

A model is a frozen, hashable record of pure functions over `params`, a dictionary of named branches. A
family defines the abstract methods; the others have a default that fits most families. The number of
steps T, schedules and weights are matters of a family alone.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import numpy as np

from vdm.errors import ConfigError
from vdm.models import microbatches
from vdm.models.chain import Chain
from vdm.models.means import Metrics, mean_bits_per_dim
from vdm.models.records import ModelState, Noise, Support, TermMaps, TermsFn
from vdm.types import Batch, ElboTerms, Index, Known, Latents, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Model(abc.ABC):
    """A model of one family, see the module.

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
        """Number of dimensions of an image, D = H W C."""
        return math.prod(self.shape)

    @abc.abstractmethod
    def init(self, key: PRNGKey) -> Params:
        """Return fresh parameters, a dictionary of branches; `key` is consumed."""

    @abc.abstractmethod
    def training_noise(self, key: PRNGKey, batch_size: int) -> Noise:
        """Draw the noise of one training step for B = `batch_size` images; `key` is consumed."""

    @abc.abstractmethod
    def evaluation_noise(self, seed: int, randomisation, repeat, index: Index) -> Noise:
        """Draw the noise with which images are evaluated.

        Every image's noise depends on (seed, randomisation, repeat, its index) alone, so that batch
        size, padding and further repeats change nothing that was drawn before.

        Args:
          seed: seed of the evaluation.
          randomisation: number of the independent randomisation.
          repeat: number of the repeat within it.
          index: position of each image in its split [B].
        """

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
        """Return the negative ELBO of every image, term by term [B], nats.

        Args:
          params: the model's parameters.
          batch: images; padding is evaluated like any image and masked by the caller.
          noise: draws of `training_noise` or `evaluation_noise`.
          train: whether dropout is on.
          dropout_key: key of dropout, consumed when training.
        """

    @abc.abstractmethod
    def supports(self) -> Support:
        """Return the bounds, samplers and codec that work with this model."""

    def facts(self) -> dict[str, Any]:
        """Return the facts to print beside a number: family, T of training, dtype of computation."""
        facts = {"family": self.family, "timesteps_train": self.timesteps_train}
        return {**facts, "dtype": "float32"}

    @property
    def timesteps_train(self) -> int | None:
        """T of the bound that training descends, 0 = continuous time; None for a family without T."""
        return None

    def groups(self, params: Params) -> Params:
        """Return the name of every leaf's parameter group; by default that of its branch."""
        return jax.tree_util.tree_map_with_path(lambda path, _: str(path[0].key), params)

    def group_kinds(self) -> dict[str, str]:
        """Return {parameter group: kind of its optimizer}, kinds of `vdm.training.optimizer.KINDS`."""
        return dict.fromkeys(jax.eval_shape(self.init, jax.random.key(0)), "network")

    def init_state(self) -> ModelState:
        """Return the family's state before the first step; by default None."""
        return None

    def gradient(
        self, params: Params, state: ModelState, batch: Batch, noise: Noise, key: PRNGKey
    ) -> tuple[Params, ModelState, Metrics]:
        """Return (gradient to descend, next state, metrics in bits/dim).

        By default the gradient of the mean negative ELBO over unmasked images, taken in
        `num_microbatches` parts.

        Args:
          params: the model's parameters.
          state: the family's state, see `init_state`.
          batch: images; padding is masked.
          noise: draws of `training_noise`.
          key: key of dropout, consumed.
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
        """True if the terms are conditional on a context c ~ q(c|x) of every image."""
        return False

    def sample_context(self, keys: PRNGKey) -> Any:
        """Draw c ~ p(c) from one key per image [B]; None for a model without a context."""
        del keys
        return None

    def project(self, params: Params) -> Params:
        """Return the valid parameters nearest to `params`, called after every update.

        By default they are returned unchanged.
        """
        return params

    def with_timesteps(self, num_timesteps: int) -> "Model":
        """Return this model with a bound of T steps, or in continuous time (T = 0).

        Raises:
          ConfigError: T > 0 for a family that has no T to choose.
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
        """Return the uniform times within `evaluation_noise` [repeats, randomisations, N].

        None for a family whose terms take no times. Estimates of errors need them, because the times
        of all images share one random shift.

        Args:
          seed: seed of the evaluation.
          repeats: number of repeats.
          randomisations: number of independent randomisations.
          index: position of each image in its split [N].
        """
        del seed, repeats, randomisations, index
        return None

    def term_maps(self, params: Params, batch: Batch, noise: Noise) -> TermMaps:
        """Return the terms of every image before their sums over dimensions.

        Raises:
          ConfigError: the family's terms are no sums over dimensions and noise levels.
        """
        raise ConfigError(
            f"model: the terms of family {self.family!r} are no sums over pixels and noise levels"
        )

    def noise_range(self, params: Params) -> tuple[float, float] | None:
        """Return the (lowest, highest) gamma of the bound; None for a family without noise levels."""
        del params
        return None

    def paired_terms(self, gammas: tuple[float, float]) -> TermsFn:
        """Return `terms` whose noise at equal gamma is that of every other model.

        Differences between models then have a small variance. A family without noise levels is paired
        by image alone.

        Args:
          gammas: (lowest, highest) gamma that the models share.

        Raises:
          ConfigError: a model whose gamma differs between pixels or images.
        """
        del gammas
        return self.terms

    def chain(self, params: Params, num_timesteps: int = 0, context: Any = None) -> Chain:
        """Return the model as a chain of Gaussian latents, see `vdm.models.chain`.

        Args:
          params: the model's parameters.
          num_timesteps: T, for families whose T is free.
          context: c of every image [B,K], or None.

        Raises:
          ConfigError: the family is no such chain, or not one of this T.
        """
        raise ConfigError(f"model: family {self.family!r} is no chain of Gaussian latents")

    def as_diffusion(self, what: str) -> Any:
        """Return this model as a `vdm.models.diffusion_model.DiffusionModel`.

        Args:
          what: name of the tool that needs noise levels, for the message.

        Raises:
          ConfigError: the family has no noise levels.
        """
        raise ConfigError(
            f"{what}: is about the noise levels of a diffusion model; family {self.family!r} has none"
        )

    def predict(self, params: Params, z: Latents, gamma: Any, known: Known) -> Latents:
        """Return eps_hat(z, gamma, known) [B,H,W,C], the function that guidance wraps.

        Args:
          params: the model's parameters.
          z: noisy latents [B,H,W,C].
          gamma: their noise levels, broadcastable to z.
          known: record of what is known of each image.

        Raises:
          ConfigError: the family predicts no noise.
        """
        raise ConfigError(
            f"model: family {self.family!r} predicts no noise; choose another sampler"
        )
