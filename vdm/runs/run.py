"""Work folders as objects: configuration, model, parameters, numbers and samples of a run.

The model is built from config.json, which knows the shape of the images: data are opened when `data` or
`evaluate` asks for them, and not before.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from vdm.data import Dataset
from vdm.data.base import cache_root
from vdm.data.batches import eval_batches
from vdm.errors import CheckpointError, ConfigError, DataError
from vdm.evaluation.evaluate import Evaluation, evaluate, make_evaluation_step
from vdm.models.base import Model
from vdm.runs import checkpoints, record, saved_model, stored
from vdm.runs.checks import SEEDS, check_integers
from vdm.runs.evaluations import Stored
from vdm.runs.folder import require_identity
from vdm.runs.parts import Parts, open_trained_data
from vdm.runtime import devices
from vdm.samplers import Trajectory, make_sampler, serving
from vdm.samplers.draw import draw_samples, make_sample_step
from vdm.training.checkpoint_folder import Folder
from vdm.types import DataSpec, Params

# Models, samplers, estimations and meshes are hashable: asked again, nothing is compiled again.
_evaluation_step: Any = functools.lru_cache(maxsize=8)(make_evaluation_step)
_sample_step: Any = functools.lru_cache(maxsize=8)(make_sample_step)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A bound on the negative log-likelihood of a split, with its errors.

    Attributes:
      facts: the record as it is written: bits/dim, and everything that must stand beside them.
      evaluation: per image in nats: index [N], terms [randomisations, N].
      path: where it was written, or None.
    """

    facts: Mapping[str, Any]
    evaluation: Evaluation
    path: Path | None = None

    @property
    def bits_per_dim(self) -> Mapping[str, Mapping[str, float | None]]:
        """{term or "total": {"mean", "standard_error", "monte_carlo_error", ...}}."""
        return self.facts["bits_per_dim"]

    def __str__(self) -> str:
        return record.format_report(self.facts)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained model in its work folder; see `vdm.runs.open`.

    Attributes:
      workdir: the folder.
      identity: config.json: configuration as it was saved, data identity, provenance.
      config: the whole configuration, as `vdm.runs.build` takes it; what an earlier revision lacked has
        the default of its time.
      spec: shape, levels and content hash of the data, as config.json has them.
      model: the model, on which every function of `vdm.models.base.Model` can be called.
      cache_dir: where prepared data live; None = where the configuration says, which is only read,
        or else the user's own cache.
    """

    workdir: Path
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    spec: DataSpec
    model: Model
    cache_dir: Path | None = None

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        return Folder(self.workdir / "checkpoints", True, print).steps()

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices there are."""
        return devices.make_mesh()

    def params(self, step: str | int = "latest") -> Params:
        """Return the averaged parameters of a checkpoint, checked against the hashes saved with them.

        Args:
          step: "latest", "best" (of those that were validated), or a number in `steps`.

        Raises:
          CheckpointError: no such step, or none that can be trusted.
        """
        return self._restore(step)[1]

    @functools.cached_property
    def data(self) -> Dataset:
        """Data that the run was trained on; opened, and prepared where needed, when first asked for.

        Raises:
          DataError: they are gone, or are not what they were.
        """
        try:
            return open_trained_data(self.identity, cache_dir=self.cache_dir)
        except (DataError, ConfigError) as error:
            raise DataError(
                f"data {self.spec.name!r} of workdir={self.workdir}: cannot be had ({error}); put "
                f"back the data with content hash {self.spec.content_hash}, or give the cache_dir "
                "that holds them; model, params and sample need none"
            ) from error

    @property
    def evaluations(self) -> dict[str, Stored]:
        """Stored evaluations {file name: record}; the `fault` of one of this run is ""."""
        return stored.read_all(self.workdir, self.identity)

    def evaluate(
        self,
        split: str | None = None,
        *,
        step: str | int = "latest",
        timesteps: int | None = None,
        repeats: int | None = None,
        randomisations: int | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        write: bool = False,
    ) -> Evaluated:
        """Evaluate the bound on every image of a split, term by term; None = as the configuration says.

        Args:
          split: train, validation or test.
          step: the checkpoint, see `params`.
          timesteps: T of the bound; 0 = continuous time.
          repeats: times per image in one randomisation.
          randomisations: independent ones; 2 or more give a Monte Carlo error.
          seed: seed of times and noise.
          batch_size: images at once; changes no number.
          write: whether the record goes to evaluations/.
        """
        given = {"split": split, "num_timesteps": timesteps, "repeats": repeats}
        given |= {"randomisations": randomisations, "seed": seed}
        check_integers(
            timesteps=(timesteps, 0, None),
            repeats=(repeats, 1, None),
            randomisations=(randomisations, 1, None),
            seed=(seed, *SEEDS),
        )
        options = {**self.config["evaluate"]}
        options |= {name: value for name, value in given.items() if value is not None}
        options["batch_size"] = self._batch_size(batch_size, options["batch_size"])
        # The record's hash covers values of former fields, which `config` is without.
        config = saved_model.hashed_config(self.identity, self.config)
        parts = Parts({**config, "evaluate": options}, self.data, self.model, self.mesh)
        return self._evaluate(parts, *self._restore(step), write)

    def sample(
        self,
        num: int,
        steps: int = 250,
        *,
        sampler: str | None = None,
        seed: int = 0,
        step: str | int = "latest",
        batch_size: int | None = None,
    ) -> Trajectory:
        """Draw images from the model, as numpy arrays.

        Args:
          num: number of images.
          steps: steps from noise to image.
          sampler: a name in `vdm.samplers.SAMPLERS`; None = the first that serves the model.
          seed: seed of all noise.
          step: the checkpoint, see `params`.
          batch_size: samples at once, 64 if there are so many; changes no sample.

        Returns:
          Integer codes [num,H,W,C], and latents before and after of the first few.
        """
        check_integers(num=(num, 1, None), steps=(steps, 1, None), seed=(seed, *SEEDS))
        size = self._batch_size(batch_size, min(num, 64))
        draw = _sample_step(
            self.model, self.mesh, make_sampler(serving(self.model, sampler)), steps
        )
        return draw_samples(draw, self.params(step), seed, num, size)

    def _restore(self, step: str | int) -> tuple[int, Params]:
        return checkpoints.load_params(self.model, self.mesh, self.workdir, step)

    def _batch_size(self, given: int | None, default: int) -> int:
        """Return the size given, or the default rounded up to a multiple of the number of devices."""
        count = self.mesh.devices.size
        if given is None:
            return -(-default // count) * count
        devices.check_divisible("batch_size", given, self.mesh)
        return given

    def _evaluate(self, parts: Parts, at: int, params: Params, write: bool) -> Evaluated:
        """Return the evaluation of the parameters of step `at`, stored where `write` says so."""
        options = parts.config["evaluate"]
        split = options["split"]
        estimation = record.make_estimation(options, self.model.timesteps_train)
        compiled = _evaluation_step(self.model, estimation, self.mesh)
        batches = eval_batches(parts.dataset, split, options["batch_size"])
        evaluation = evaluate(self.model, params, batches, estimation, self.mesh, step=compiled)
        of_bound = evaluation.of_bound()
        facts = record.describe(parts, params, of_bound, split, at)
        if not write:
            return Evaluated(facts, evaluation)
        path = record.report_path(self.workdir, split, at, estimation)
        record.write_report(path, facts, of_bound)
        return Evaluated(facts, evaluation, path)


def open_run(workdir: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> Run:
    """Return the run in `workdir`; see `vdm.runs.open`."""
    folder = Path(os.path.expanduser(workdir))  # pathlib's own raises without a home
    identity = require_identity(folder)
    config = saved_model.read_config(folder, identity)
    spec = saved_model.read_spec(folder, identity)
    model = saved_model.build_model(folder, identity, spec, config)
    cache = None if cache_dir is None else cache_root(cache_dir)
    run = Run(folder, identity, config, spec, model, cache)
    # A run that saved checkpoints and lost them is told so; one that saved none yet is unfinished.
    if not run.steps:
        checkpoints.check_present(folder, identity, config)
        raise CheckpointError(
            f"workdir={folder}: holds no checkpoint yet; the run is unfinished: train it on, its first "
            f"one comes after {_first_save(config)} steps"
        )
    return run


def _first_save(config: Mapping[str, Any]) -> int:
    num_steps, every = (config["train"][name] for name in ("num_steps", "save_every_steps"))
    return min(num_steps, every or num_steps)
