"""A Gaussian toy whose bounds are known, and a small network whose bounds are not.

Two levels have their bin centres at +-1/2, so that E[x^2] = 1/4 exactly: the anchors of N(0, 1/4).
"""

import flax.linen as nn
import numpy as np
import pytest

from tests import compiled
from vdm.models.vdm.make import make_model
from vdm.models.vdm.model import VDM
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import alpha_sigma
from vdm.types import Batch, DataSpec

S_SQUARED = 0.25


class Optimal(nn.Module):
    """E[eps|z_t] for data N(0, 1/4), from the time it is told under the map of its end points."""

    ends: tuple[float, float]

    @nn.compact
    def __call__(self, z, time, known, train):
        alpha, sigma = alpha_sigma(self.ends[0] + (self.ends[1] - self.ends[0]) * time)
        return sigma * z / (alpha**2 * S_SQUARED + sigma**2)


@pytest.fixture(scope="session")
def toy():
    """`toy(shape, ends)` -> (model, params) with the optimal denoiser and a straight schedule."""

    def make(shape, ends=(-13.3, 5.0)):
        schedule = make_schedule("linear", Endpoints(*ends))
        model = VDM(shape, 2, schedule, Optimal(ends), "eps", True, ends)
        return model, {"schedule": {}, "denoiser": {}}

    return make


@pytest.fixture(scope="session")
def small():
    """(model, params): an MLP with random weights on 4x4 images of 17 levels."""
    spec = DataSpec("random", (4, 4, 1), 17, {"test": 13}, "")
    model = make_model(
        spec,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "learned_linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    return model, compiled.shaken(compiled.init(model), 0.1)


@pytest.fixture(scope="session")
def batches_of():
    """`batches_of(images, batch_size)` -> batches, the last one padded."""

    def make(images, batch_size):
        found = []
        for start in range(0, len(images), batch_size):
            place = np.arange(start, start + batch_size)
            index = np.minimum(place, len(images) - 1).astype(np.int32)
            flag = np.zeros(batch_size, np.float32)
            found.append(Batch(images[index], index, place < len(images), flag))
        return found

    return make


@pytest.fixture(scope="session")
def codes():
    """`codes(num_images, shape)`: equally many 0 and 1 in every image, or over images of size 1."""

    def make(num_images, shape):
        return np.resize(np.arange(2), (num_images, *shape))

    return make
