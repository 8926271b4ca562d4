"""One seed, several independent streams of random numbers.

Users give the same seed to training, evaluation and sampling. Without streams, the key of training
step 3 would also be that of the third randomisation of an evaluation.
"""

import jax

from vdm.types import PRNGKey

STREAMS = {
    "initialisation": 0,
    "training": 1,
    "evaluation": 2,
    "sampling": 3,
    "paths": 4,
    "context": 5,
}
"""Number folded into the seed for each stream. A number that was changed would change every draw of
that stream, so new streams get new numbers.
"""


def stream_key(seed: int | jax.Array, stream: str) -> PRNGKey:
    """Return the key from which stream `stream` of `seed` starts; `stream` is a key of STREAMS."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS[stream])
