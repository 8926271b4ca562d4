"""The files of configs/, as Python modules."""

import importlib.machinery
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from vdm.errors import ConfigError


def list_configs() -> list[str]:
    """Return the files that `--config` offers; a leading underscore hides one."""
    return [str(path) for path in sorted(Path("configs").glob("*.py")) if path.stem[0] != "_"]


def load_module(file: str) -> Any:
    """Run a configuration file and return its module."""
    loader = importlib.machinery.SourceFileLoader("config_to_check", file)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def run_file(file: str, *arguments: str) -> Any:
    """Return the configuration that `get_config()` of a Python file returns.

    Args:
      file: path of the file.
      *arguments: VARIANT of --config=FILE:VARIANT, if it is given.

    Raises:
      ConfigError: a variant of a file that has none. What the file raises passes through.
    """
    get_config = load_module(file).get_config
    # Python's own TypeError would speak of positional arguments, which no user has written.
    if arguments and not inspect.signature(get_config).parameters:
        path = ":".join((file, *arguments))
        raise ConfigError(f"--config={path}: the file has no variants; write --config={file}")
    return get_config(*arguments)
