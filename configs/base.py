"""The base configuration: every field of vdm/runs/defaults, which has each one's reason.

The other files in this folder change only what differs. Fields that hold None decide for themselves.
Override any of them on the command line: --config=configs/digits.py --config.train.num_steps=500
"""

from typing import Any

from ml_collections import config_dict

from vdm.runs.defaults import KINDS, default_config


def get_config() -> config_dict.ConfigDict:
    """Return the defaults: a run on the digits with the network of the paper, too long for a laptop."""
    return config_dict.ConfigDict(_typed(default_config()))


def _typed(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `section` with a typed placeholder for every None, so that overrides are checked.

    Args:
      section: a group of fields.
      prefix: the dotted names of the groups around it, with a dot at the end; the key of KINDS.
    """
    typed: dict[str, Any] = {}
    for name, value in section.items():
        field = f"{prefix}{name}"
        if isinstance(value, dict):
            typed[name] = _typed(value, f"{field}.")
        else:
            typed[name] = config_dict.placeholder(KINDS[field]) if value is None else value
    return typed
