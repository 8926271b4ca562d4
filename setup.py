"""Packaging of `vdm`; the launchers in experiments/ run from a clone and are not installed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# JAX 0.10 is the last for Python 3.11 and 0.11 needs 3.12, so both are supported.
# Flax 0.13 and orbax-checkpoint 1.0 announce other interfaces.
REQUIRED = [
    "jax>=0.10,<0.12",
    "flax<0.13",
    "optax>=0.2.8",
    "orbax-checkpoint<1.0",
    # Of the launchers alone, which run from a clone; the library imports neither.
    "ml_collections",
    "absl-py",
    "numpy",
    "scipy",
    "scikit-learn",
    "tensorboardX",
    "tqdm",
    "jaxtyping",
    # Of the launchers that draw; vdm.plots takes axes and does not import it.
    "matplotlib",
    "pillow",
    # From 3.32 its soft locks know their owner's start, and taking a lock leaves a held file as it is.
    "filelock>=3.32",
    # For tables; Flax needs it too.
    "rich>=13",
    # Of the probability-flow likelihood alone; with all it needs, 5 MB of Python.
    "diffrax>=0.7,<0.8",
]

EXTRAS = {
    "test": ["pytest", "pytest-xdist", "pytest-timeout", "hypothesis", "beartype", "ruff", "mypy"],
    # Only preparing a data set needs these; importlib_resources is TFDS's undeclared dependency.
    "data": [
        "tensorflow-datasets",
        "tensorflow",
        "importlib_resources",
        "pillow",
        "array_record",
    ],
    "gpu": ["jax[cuda13]"],
    "wandb": ["wandb"],
}


def read_version() -> str:
    """The one version string, read as text because importing vdm needs its dependencies."""
    text = (ROOT / "vdm" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not match:
        raise RuntimeError('vdm/__init__.py: no line __version__ = "X.Y.Z"; add it')
    return match[1]


def read_readme() -> str:
    """The README, or nothing where it is missing."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="vdm",
    version=read_version(),
    description="Variational diffusion models in JAX, with learned noise schedules",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["vdm", "vdm.*"]),
    package_data={"vdm": ["py.typed"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["vdm-prepare-data = vdm.runs.prepare_data:main"]},
    zip_safe=False,
)
