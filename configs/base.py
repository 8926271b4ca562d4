"""The base configuration: every field of vdm/runs/defaults, which has each one's reason.

The other files in this folder change only what differs. Fields that hold None decide for themselves.
Override any of them on the command line: --config=configs/digits.py --config.train.num_steps=500
"""

from typing import Any

from ml_collections import config_dict

from vdm.runs.defaults import KINDS, default_config


def get_config() -> config_dict.ConfigDict:
    """The base configuration: it names no data set of its own and is not meant to be run."""
    return config_dict.ConfigDict(_typed(default_config()))


def _typed(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`section` with the type of what each None stands for, which an override must have."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        field = f"{prefix}{name}"
        if isinstance(value, dict):
            found[name] = _typed(value, f"{field}.")
        else:
            found[name] = config_dict.placeholder(KINDS[field]) if value is None else value
    return found
