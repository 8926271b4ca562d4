"""Provenance of a number: configuration, versions, git revision, devices, precision."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from vdm.runs.config import flatten

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def header(config: Any = None) -> str:
    """Return the lines that a launcher prints at its start, one fact each.

    Args:
      config: the resolved configuration, a ConfigDict or a nested mapping; None without one.
    """
    fields = flatten(config) if config is not None else {}
    facts = provenance()
    lines = [f"config.{name} = {value!r}" for name, value in fields.items()]
    lines.append("versions: " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))
    rest = ("git_revision", "devices", "matmul_precision")
    return "\n".join([*lines, *(f"{name}: {facts[name]}" for name in rest)])


def provenance() -> dict[str, Any]:
    """Return the same facts as a record for a JSON file, without the configuration."""
    return {
        "versions": versions(),
        "git_revision": revision_at_start(),
        "devices": devices(),
        "matmul_precision": matmul_precision(),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that numbers depend on."""
    import vdm

    packages = {"vdm": vdm.__version__, "python": platform.python_version()}
    return packages | {name: _version(name) for name in _PACKAGES}


def git_revision(root: Path = _ROOT) -> str:
    """Return the commit of the repository, with "+changes" if tracked files differ; or "unknown"."""
    revision = _git(root, "rev-parse", "--short=12", "HEAD")
    if not revision:
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return revision + ("+changes" if changed or changed is None else "")


@functools.cache
def revision_at_start(root: Path = _ROOT) -> str:
    """Return the revision at the first call; the repository may change during a long run."""
    return git_revision(root)


def devices() -> str:
    """Return the devices as text, such as "8 x cpu (cpu), 1 process"."""
    import jax

    all_devices = jax.devices()
    count = jax.process_count()
    kind = f"{len(all_devices)} x {all_devices[0].device_kind} ({all_devices[0].platform})"
    return f"{kind}, {count} process{'es' if count > 1 else ''}"


def matmul_precision() -> str:
    """Return JAX's default precision of matrix products; "default" means the device's own choice."""
    import jax

    # Only the attribute sees jax.default_matmul_precision(...); it is defined at run time.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return str(precision or "default")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(root: Path, *words: str) -> str | None:
    # The folder is named, or git would answer for a repository that merely surrounds a copy.
    flags = ["--no-optional-locks", f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    command = ["git", *flags, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
