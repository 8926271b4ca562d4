"""Flags that several launchers share, each defined by a function that the launcher calls.

    _WORKDIR = evaluation_flags.workdir()
    _SPLIT = evaluation_flags.split("test")

absl lists a flag under the module that defines it, and `--help` shows the flags of the launcher alone.
This module disclaims its definitions, so a flag belongs to the launcher that called the function, and
the help of a launcher lists exactly the flags that it takes.
"""

import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from vdm.errors import ConfigError
from vdm.runs.prepare_data import VERIFY_DATA
from vdm.runs.ranges import MAX_TIMESTEPS

Flag = flags.FlagHolder[Any]

FORMER_OPTIONS = {
    "density": ("continuous", "density"),
    "iwae_weights": ("iwae", "num_weights"),
    "ode_solver": ("ode", "solver"),
    "ode_tolerance": ("ode", "tolerance"),
    "ode_max_steps": ("ode", "max_steps"),
    "ode_trace": ("ode", "trace"),
    "ode_dequantisation": ("ode", "dequantisation"),
    "ode_weights": ("ode", "num_weights"),
}
"""{former flag: (bound, the option of that bound that it sets)}; they go with the next release."""

_LARGEST_SEED = 2**32 - 1

flags.disclaim_key_flags()


def workdir() -> Flag:
    """--workdir of a launcher that reads one run."""
    text = "Work folder of the trained run. Required."
    return flags.DEFINE_string("workdir", None, text, required=True)


def workdirs(text: str) -> Flag:
    """--workdirs of a launcher that reads several runs; `text` is its help."""
    return flags.DEFINE_list("workdirs", None, f"{text} Required.", required=True)


def out(within: str | None = None) -> Flag:
    """--out, the folder that a report is written into.

    Args:
      within: the folder of the run that is written into by default; None makes the flag required.
    """
    if within is None:
        text = "Folder that everything is written into; created if needed. Required."
        return flags.DEFINE_string("out", None, text, required=True)
    text = f"Folder that everything is written into. Default: {within} in the work folder."
    return flags.DEFINE_string("out", None, text)


def split(default: str | None = None) -> Flag:
    """--split; None takes the split that the run's configuration names."""
    text = "Split whose images are used: train, validation or test."
    return flags.DEFINE_string("split", default, _as_configured(text, default))


def step(text: str = "Checkpoint that is read") -> Flag:
    """--step, which checkpoint of each run is read."""
    choices = ": latest, best (by the validation bound), or its number of training steps."
    return flags.DEFINE_string("step", "latest", text + choices)


def seed(default: int | None, text: str) -> Flag:
    """--seed, described by `text`; a default of None means the configured seed."""
    text = _as_configured(f"Seed of {text}, 0 to {_LARGEST_SEED}.", default)
    return flags.DEFINE_integer("seed", default, text, lower_bound=0, upper_bound=_LARGEST_SEED)


def timesteps(text: str = "", default: int | None = None) -> Flag:
    """--timesteps, T of the bound; `text` replaces its help."""
    text = text or "Number of steps T of the bound; 0 = continuous time. Default: as trained."
    return flags.DEFINE_integer(
        "timesteps", default, text, lower_bound=0, upper_bound=MAX_TIMESTEPS
    )


def repeats(default: int | None = None, otherwise: str = "") -> Flag:
    """--repeats, times per image in one randomisation; `otherwise` is what None means."""
    text = f"Number of times t drawn per image in each randomisation.{otherwise}"
    return flags.DEFINE_integer("repeats", default, text, lower_bound=1)


def randomisations(default: int | None = None, otherwise: str = "") -> Flag:
    """--randomisations; `otherwise` is what None means.

    Where there is a default, a report shows the Monte Carlo error, which needs at least 2.
    """
    need = "at least 2 give a Monte Carlo error" if default is None else "at least 2"
    text = f"Number of independent randomisations of times and noise; {need}.{otherwise}"
    least = 1 if default is None else 2
    return flags.DEFINE_integer("randomisations", default, text, lower_bound=least)


def batch_size(default: int | None = None, things: str = "images") -> Flag:
    """--batch_size, the number of items per call; it affects memory and speed, not results."""
    text = f"Number of {things} computed at once; the numbers do not depend on it."
    return flags.DEFINE_integer("batch_size", default, _as_configured(text, default), lower_bound=1)


def num_images(default: int) -> Flag:
    """--num_images, how many images of the split are used."""
    text = "Number of images: the first of the split."
    return flags.DEFINE_integer("num_images", default, text, lower_bound=2)


def verify_data() -> Flag:
    """--verify_data, whether the hash of all pixels is computed again."""
    return flags.DEFINE_bool("verify_data", False, VERIFY_DATA)


def former_options() -> None:
    """Define the flags of `FORMER_OPTIONS`, read by `with_former_options`."""
    for name, (bound, option) in FORMER_OPTIONS.items():
        text = f"Former spelling of --bound={bound}:{option}=VALUE, until the next release."
        flags.DEFINE_string(name, None, text)


def with_former_options(bounds: str) -> str:
    """Return the value of --bound with the options that former flags set; print a warning for each.

    Args:
      bounds: NAME[@T][:option=value]...[,...]; an option that is written here wins.

    Raises:
      ConfigError: a flag of a bound that is not asked for.
    """
    words = bounds.split(",")
    names = [word.partition(":")[0].partition("@")[0] for word in words]
    for flag, (bound, option) in FORMER_OPTIONS.items():
        value = flags.FLAGS[flag].value
        if value is None:
            continue
        if bound not in names:
            raise ConfigError(
                f"--{flag}={value}: is an option of {bound}, and --bound={bounds} asks for none; "
                "leave it out"
            )
        print(
            f"--{flag} is now --bound={bound}:{option}={value}; it goes with the next release",
            file=sys.stderr,
            flush=True,
        )
        words = [
            f"{word}:{option}={value}" if name == bound and f":{option}=" not in word else word
            for word, name in zip(words, names, strict=True)
        ]
    return ",".join(words)


def with_flags(config: Mapping[str, Any], *given: Flag) -> dict[str, Any]:
    """Return `config` with the flags that were given in place of the fields of section "evaluate"."""
    values = {flag.name: flag.value for flag in given if flag.value is not None}
    return {**config, "evaluate": {**config["evaluate"], **values}}


def _as_configured(text: str, default: object) -> str:
    # A default of None means that the run's configuration decides, which the help text says instead.
    return f"{text} Default: as configured." if default is None else text
