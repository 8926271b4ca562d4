"""One seed, several streams of random numbers that never meet.

Users give the same seed to training, evaluation and sampling. Folded in plainly, the key of training
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


def stream_key(seed: int | jax.Array, stream: str) -> PRNGKey:
    """The key that stream `stream` of `seed` starts from."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS[stream])
