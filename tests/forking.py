"""Python processes forked from one that has imported the library, so that they start in no time.

Importing JAX, Flax and Orbax is most of what a short launcher does. The fork server of
`multiprocessing` does it once for all that a test process starts. It runs no program of XLA's, whose
threads a fork would lose. What importing itself does or costs needs a new interpreter: `run_python`.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import types
import weakref
from pathlib import Path

_IMPORTED = (
    "vdm.runs.parts",
    "vdm.runs.provenance",
    "experiments.cli.launcher",
    "experiments.sessions.training",
    "experiments.sessions.dry_run",
    "experiments.sessions.bounds",
)
"""No launcher itself: it is run as `__main__` and defines its flags then."""


class Forked:
    """A running `python ARGS`, with those methods of `subprocess.Popen` that tests need."""

    def __init__(self, args: list[str], env: dict[str, str], cwd: Path, merged: bool = False):
        """Start the process.

        Args:
          args: "-m", module and words, or "-c", code and words.
          env: the whole environment; what JAX reads when imported is the test process's.
          cwd: the folder to run in.
          merged: whether stderr is written where stdout is.
        """
        self.args = args
        self._output = Path(tempfile.mkdtemp(prefix="vdm-forked-"))
        weakref.finalize(self, shutil.rmtree, self._output, ignore_errors=True)
        names = ("stdout", "stdout" if merged else "stderr")
        paths = [str(self._output / name) for name in names]
        self._process = _context().Process(target=_run_as_main, args=(args, env, str(cwd), paths))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, the negative signal that ended it, or None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process and its children."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has not made its group yet
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()

    def read(self, name: str = "stdout") -> str:
        """Return everything written so far."""
        path = self._output / name
        return path.read_text() if path.exists() else ""

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end and return (stdout, stderr); raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.read("stdout"), self.read("stderr")


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_IMPORTED])
    return context


def _run_as_main(args, env, cwd, paths):
    """Run what `python ARGS` would run; called in the new process."""
    os.setsid()
    for number, path in enumerate(paths, start=1):
        # Appending, so that neither overwrites the other where both have one file.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    try:
        _run(*args)
    finally:
        # `multiprocessing` ends its processes without.
        atexit._run_exitfuncs()


def _run(kind, text, *words):
    sys.argv = [text if kind == "-m" else "-c", *words]
    if kind == "-m":
        runpy.run_module(text, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(text, "<string>", "exec"), vars(main))
