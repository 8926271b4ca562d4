"""A bare gradient as the gradient of a family that keeps no state."""


def stateless(gradient_fn):
    """Turn a function (params, batch, noise, key) -> (grads, metrics) into one that keeps a state."""

    def gradient(params, state, batch, noise, key):
        grads, metrics = gradient_fn(params, batch, noise, key)
        return grads, state, metrics

    return gradient
