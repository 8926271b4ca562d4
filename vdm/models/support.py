"""Check that a bound or sampler works with a model, before anything is computed."""

from vdm.errors import ConfigError
from vdm.models.base import Model


def require_support(kind: str, name: str, model: Model) -> None:
    """Check that a model supports a bound or sampler.

    Args:
      kind: "bounds" or "samplers".
      name: name of the bound or sampler.
      model: the model.

    Raises:
      ConfigError: the model does not support it.
    """
    served = getattr(model.supports(), kind)
    if served is not None and name not in served:
        listed = ", ".join(served) or "none"
        raise ConfigError(
            f"{kind[:-1]}={name!r}: does not serve a model of family {model.family!r}; "
            f"choose one of {listed}"
        )
