"""Data, model, devices and training step of a configuration: what all launchers build."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from vdm.data import RECIPES, Dataset, open_content
from vdm.data.augment import Augmentation
from vdm.data.base import NotPrepared
from vdm.data.batches import train_batch
from vdm.errors import ConfigError, DataError, DiskError
from vdm.models import make_family
from vdm.models.base import Model
from vdm.runs import checks
from vdm.runs.dataset import make_augmentation, open_dataset
from vdm.runs.earlier_data import open_earlier
from vdm.runs.folder import check_same_data
from vdm.runtime import devices
from vdm.seeds import stream_key
from vdm.training.optimizer import make_optimizer
from vdm.training.state import TrainState, init_state
from vdm.training.step import (
    TrainStep,
    jit_train_step,
    make_train_step,
    several_steps,
    sharded_gradient,
)
from vdm.types import Batch

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Parts:
    """A configuration's data, model and devices, before any parameters exist.

    Attributes:
      config: every field.
      dataset: the open data, all splits.
      model: the model for images of that shape.
      mesh: the devices that batches and parameters are laid over.
    """

    config: Config
    dataset: Dataset
    model: Model
    mesh: Mesh

    @property
    def steps_per_call(self) -> int:
        """Number of steps that one call of `train_step` makes."""
        return self.config["train"].get("steps_per_call", 1)

    def train_batch(self, step: int) -> Batch:
        """Return training batch number `step`, augmented as configured, on the devices.

        Images are [B,H,W,C]; with K > 1 steps per call, the K batches that one call takes from there
        are stacked, [K,B,H,W,C].
        """
        if self.steps_per_call == 1:
            return devices.place_share(self._host_batch(step), self.mesh)
        hosts = [self._host_batch(step + k) for k in range(self.steps_per_call)]
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *hosts)
        return devices.place_share(stacked, self.mesh, leading_axes=1)

    def _host_batch(self, step: int) -> Batch:
        """Return this process's share of a training batch, as numpy arrays."""
        share = (jax.process_index(), jax.process_count())
        size, augmentation = self.config["train"]["batch_size"], self.augmentation
        return train_batch(
            self.dataset, self.config["seed"], step, size, "train", *share, augmentation
        )

    @property
    def augmentation(self) -> Augmentation:
        """Random transforms of training images."""
        return make_augmentation(self.config["data"])

    def abstract_state(self) -> TrainState:
        """Return the shapes, dtypes and shardings of the training state, without arrays."""
        shapes = jax.eval_shape(self._init, jax.random.key(0))
        return devices.abstract_like(shapes, devices.state_shardings(shapes, self.mesh))

    def fresh_state(self) -> TrainState:
        """Return the state before step 0, initialised from the configuration's seed."""
        shapes = jax.eval_shape(self._init, jax.random.key(0))
        init = jax.jit(self._init, out_shardings=devices.state_shardings(shapes, self.mesh))
        return init(stream_key(self.config["seed"], "initialisation"))

    def train_step(self) -> TrainStep:
        """Return the compiled training step; it takes one batch, or those of a call stacked."""
        config, state = self.config, self.abstract_state()
        step = make_train_step(
            self.model,
            sharded_gradient(self.model.gradient, self.mesh, state.params),
            self.optimizer(),
            config["seed"],
            config["optimizer"]["ema_decay"],
        )
        several = self.steps_per_call > 1
        return jit_train_step(several_steps(step) if several else step, self.mesh, state, several)

    def optimizer(self) -> optax.GradientTransformation:
        """Return the optimizer of all parameter groups."""
        options, num_steps = self.config["optimizer"], self.config["train"]["num_steps"]
        return make_optimizer(options, num_steps, self.model.group_kinds(), self.model.groups)

    def _init(self, key):
        return init_state(self.model, self.optimizer(), key)


def build(
    config: Config,
    cache_dir: str | os.PathLike | None = None,
    *,
    verify_data: bool = False,
    saved: Mapping[str, Any] | None = None,
) -> Parts:
    """Return the parts that a whole configuration describes.

    Args:
      config: every field.
      cache_dir: where prepared arrays live, unless `config` says.
      verify_data: hash all pixels again.
      saved: config.json of the run that is resumed, which keeps the splits it was trained on.

    Raises:
      ConfigError: a value that does not fit, named.
      DataError: unsuitable data.
    """
    # Numbers before devices before data: the cheapest mistakes are answered first.
    checks.check(config, saved["config"] if saved else None)
    mesh = mesh_of(config)
    cache_dir = config["data"]["cache_dir"] or cache_dir
    dataset = open_earlier(config["data"], saved, cache_dir, verify_data) if saved else None
    dataset = dataset or open_dataset(config["data"], cache_dir, verify=verify_data)
    parts = _assemble(config, mesh, dataset)
    # A run that began before a check existed may go on as it is.
    if saved is None:
        checks.check_with_data(config, dataset, parts.model)
    # Refuses parameters that cannot be split over the devices, before anything is written.
    parts.abstract_state()
    return parts


def mesh_of(config: Config) -> Mesh:
    """Return the devices for training.

    Raises:
      ConfigError: more than there are, or a number that does not divide the batch.
    """
    mesh, train = devices.make_mesh(**devices.options_of(config)), config["train"]
    devices.check_divisible(
        "config.train.batch_size", train["batch_size"], mesh, train["num_microbatches"]
    )
    checks.check_dtype(config["denoiser"], mesh)
    return mesh


def build_trained(
    identity: Mapping[str, Any], *, verify_data: bool = False, split: str | None = None
) -> Parts:
    """Return the parts of a trained run, on however many devices there are now.

    Parameters are copied to every device: evaluation and sampling need no optimizer state, which takes
    most of the memory.

    Args:
      identity: the contents of its config.json.
      verify_data: hash all pixels again.
      split: the split that will be evaluated.

    Raises:
      DataError: its data are gone or have changed since, or have no such split.
    """
    # By the record of the data: opening them may mean to prepare them first.
    sizes = identity["data"]["split_sizes"]
    if split is not None and split not in sizes:
        raise DataError(
            f"split={split!r}: data {identity['data']['name']!r} has no such split; choose one of "
            f"{', '.join(sizes)}"
        )
    dataset = open_trained_data(identity, verify_data=verify_data)
    return _assemble(identity["config"], devices.make_mesh(), dataset)


def open_trained_data(
    identity: Mapping[str, Any],
    *,
    cache_dir: str | os.PathLike | None = None,
    verify_data: bool = False,
) -> Dataset:
    """Return the data that a run was trained on.

    The data.cache_dir of its config.json is read and never written: a work folder may come from
    someone else. What must be prepared goes to the user's own cache, see `vdm.data.base.cache_root`.

    Args:
      identity: the contents of its config.json.
      cache_dir: where prepared arrays live, in place of both; it may be written.
      verify_data: hash all pixels again.

    Raises:
      DataError: they are gone or have changed since.
    """
    dataset = None
    stored = identity["config"]["data"].get("cache_dir")
    if cache_dir is None and stored is not None:
        # Whatever is wrong there, such as the home folder of a user who is unknown here, the user's
        # own cache may have the data, or get them.
        with contextlib.suppress(ConfigError, DataError, DiskError, OSError):
            dataset = _find_trained(identity, stored, verify_data, prepare=False)
    dataset = dataset or _find_trained(identity, cache_dir, verify_data, prepare=True)
    check_same_data(identity["data"], dataset.spec)
    return dataset


def _find_trained(
    identity: Mapping[str, Any], cache_dir: str | os.PathLike | None, verify: bool, prepare: bool
) -> Dataset:
    """Return prepared data, by their hash where the files they came from are gone.

    Args:
      identity: the contents of config.json.
      cache_dir: where prepared arrays live; None for the user's own cache.
      verify: hash all pixels again.
      prepare: prepare what the cache lacks; False writes nothing.
    """
    data, saved = identity["config"]["data"], identity["data"]
    if data["name"].partition(":")[0] in RECIPES:
        try:
            dataset = open_dataset(data, cache_dir, verify=verify, prepare=False)
        except DataError:
            dataset = None
        if dataset is not None and dataset.spec.content_hash == saved["content_hash"]:
            return dataset
        # A folder that an earlier revision split in another way.
        if dataset := open_earlier(data, identity, cache_dir, verify, prepare):
            return dataset
        # The files have changed or are gone: by hash, without labels, which belong to the request.
        dataset = open_content(saved["content_hash"], cache_dir, verify)
        if dataset is not None and dataset.spec.name == saved["name"]:
            return dataset
    try:
        return open_dataset(data, cache_dir, verify=verify, prepare=prepare)
    except DataError as error:
        # Not there, and not to be prepared: another cache gets its turn. By hash, a change of the
        # files would go unnoticed.
        if isinstance(error, NotPrepared) and not prepare:
            raise
        dataset = open_content(saved["content_hash"], cache_dir, verify)
        if dataset is None or dataset.spec.name != saved["name"]:
            raise
        return dataset


def _assemble(config: Config, mesh: Mesh, dataset: Dataset) -> Parts:
    """Return parts on data that are open, once what depends on their shape is known to fit."""
    devices.check_divisible("config.evaluate.batch_size", config["evaluate"]["batch_size"], mesh)
    make_augmentation(config["data"]).check(dataset.spec.shape)
    return Parts(config, dataset, make_family(dataset.spec, config), mesh)


def use_compilation_cache() -> None:
    """Keep compiled programs in ~/.cache/vdm/jax, unless JAX_COMPILATION_CACHE_DIR says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            folder = Path("~/.cache/vdm/jax").expanduser()
            # Private, because anyone who can write here could plant a program that this user runs.
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = folder.stat()
        except (OSError, RuntimeError):  # no home folder at all
            return  # only slower
        # Windows has neither owners' numbers nor these bits.
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            logging.getLogger(__name__).warning(
                f"{folder}: others can write there, so no compiled programs are kept; chmod 700 it"
            )
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
