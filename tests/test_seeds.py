"""One seed gives training, evaluation and sampling keys that differ."""

import itertools

import jax
import numpy as np

from vdm.seeds import STREAMS, stream_key


def test_streams_of_nearby_seeds_never_meet():
    """Nor do the keys that stages fold from them."""
    keys = [
        jax.random.fold_in(stream_key(seed, stream), n)
        for seed, stream, n in itertools.product(range(4), STREAMS, range(4))
    ]
    words = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(words) == len(keys)
    assert len(set(STREAMS.values())) == len(STREAMS)
