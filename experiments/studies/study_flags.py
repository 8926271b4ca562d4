"""Flags that every study of schedules takes."""

from typing import Any

from absl import flags

flags.disclaim_key_flags()

Flag = flags.FlagHolder[Any]


def workdir() -> Flag:
    """--workdir, the folder of all runs."""
    text = "Folder that holds a work folder for each run. Required."
    return flags.DEFINE_string("workdir", None, text, required=True)


def config_file() -> Flag:
    """--config_file, the configuration that is varied."""
    text = "Configuration that all runs start from, FILE.py or FILE.py:VARIANT."
    return flags.DEFINE_string("config_file", "configs/digits.py:study", text)


def seeds() -> Flag:
    """--seeds, how many training seeds each schedule has."""
    text = "Number of training seeds per schedule: 0, 1, ..."
    return flags.DEFINE_integer("seeds", 3, text, lower_bound=1)


def num_steps() -> Flag:
    """--num_steps of each run."""
    text = "Number of training steps of each run. Default: as configured."
    return flags.DEFINE_integer("num_steps", None, text)
