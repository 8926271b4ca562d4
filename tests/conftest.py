"""Stricter numerics than in use, one shared compilation cache, and runs on simulated devices."""

import ctypes
import functools
import gc
import getpass
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Before the first import of JAX. Two test processes share two cores, so each gets one thread.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "MPLBACKEND": "agg",
    "NPROC": "1",  # read by XLA for its thread pool
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # XLA's CPU loader warns at length about each cached program's machine features.
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
os.environ.update(_ENVIRONMENT)
# Tests compile more than they compute: LLVM's level 0 takes a third of the time away. A level that
# is already set stays; .ci/run's tests on the second interpreter set the one in use.
_LEVEL = "--xla_backend_optimization_level"
if _LEVEL not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_LEVEL}=0".strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(tempfile.gettempdir()) / f"vdm-tests-{getpass.getuser()}" / "jax_cache"),
)

import hypothesis
import jax
import pytest

from tests.forking import Forked

# The same few examples each time; $VDM_HYPOTHESIS=nightly draws more, and others each time.
hypothesis.settings.register_profile(
    "quick", derandomize=True, deadline=None, max_examples=30, database=None
)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000, database=None)
hypothesis.settings.load_profile(os.environ.get("VDM_HYPOTHESIS", "quick"))

ROOT = Path(__file__).resolve().parent.parent
MEMORY_LIMIT = 1_000_000_000
"""Bytes of resident memory above which a test process forgets its compiled programs."""


@pytest.fixture(autouse=True)
def bounded_memory():
    """After each test: drop the compiled programs of a process that has grown too large.

    JAX keeps all of them, which is some 4 GB for the whole suite. What a later test needs again comes
    from the persistent cache. The C library keeps freed memory until it is asked to return it.
    """
    yield
    if _resident_bytes() > MEMORY_LIMIT:
        jax.clear_caches()
        gc.collect()
        if hasattr(_LIBC, "malloc_trim"):
            _LIBC.malloc_trim(0)


_LIBC = ctypes.CDLL(None)


def _resident_bytes() -> int:
    """Resident memory of this process, 0 where the system does not tell."""
    path = Path("/proc/self/statm")
    return (
        int(path.read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
        if path.exists()
        else 0
    )


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference arrays and data sets beside the repository; skips without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference data in a folder shared/ beside {ROOT.name}/")
    return path


@pytest.fixture
def tmpfs(tmp_path):
    """`tmpfs(size)` -> a folder that is a file system of that size; again: the same, enlarged."""
    folder = tmp_path / "disk"

    def mount(size):
        again = folder.exists()
        folder.mkdir(exist_ok=True)
        option = f"remount,size={size}" if again else f"size={size}"
        words = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("needs the command mount")
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.exists() and os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def run_python():
    """`run_python(code_or_args, ...)`: Python in a process of its own, on simulated devices."""
    return functools.partial(_run_python, start=_start_new)


@pytest.fixture(scope="session")
def fork_python():
    """`run_python` without the seconds of importing: for what does not ask how a process starts."""
    return functools.partial(_run_python, start=_start_fork)


def _run_python(
    code_or_args: str | list[str],
    *,
    start,
    devices: int = 8,
    timeout: float = 120.0,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    check: bool = True,
) -> subprocess.CompletedProcess:
    """Run a snippet, or `python ARGS`, with `devices` CPU devices and a kill time-out.

    Args:
      code_or_args: source code, or the arguments of the interpreter, such as ["-m", "module"].
      start: (arguments, environment, folder) -> a process with `communicate` and `returncode`, and a
        function that kills it and its children and returns the end of what it wrote.
      devices: number of simulated devices.
      timeout: seconds until the process and its children are killed and the test fails.
      env: further environment variables.
      cwd: the folder to run in.
      check: whether an exit code other than 0 fails the test.

    Returns:
      The finished process with `returncode`, `stdout` and `stderr` (text).
    """
    args = ["-c", code_or_args] if isinstance(code_or_args, str) else list(code_or_args)
    process, kill = start(args, {**_environment(devices), **(env or {})}, cwd)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{args} took more than {timeout} s; killed.\n{kill()}")
    if check and process.returncode != 0:
        pytest.fail(f"{args} ended with {process.returncode}:\n{stdout[-2000:]}{stderr[-4000:]}")
    return subprocess.CompletedProcess(args, process.returncode, stdout, stderr)


def _start_new(args, env, cwd):
    pipe = subprocess.PIPE
    options = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True}
    words = [sys.executable, *args]
    process = subprocess.Popen(words, cwd=cwd, env=env, start_new_session=True, **options)

    def kill():
        # SIGKILL and the whole group: a deadlocked XLA answers nothing milder.
        os.killpg(process.pid, signal.SIGKILL)
        return "".join(text[-2000:] for text in process.communicate())

    return process, kill


def _start_fork(args, env, cwd):
    process = Forked(args, env, cwd)

    def kill():
        process.kill()
        return process.read("stderr")[-4000:]

    return process, kill


def _environment(devices):
    """This process's environment for a child on `devices` simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags.strip(), "PYTHONPATH": str(ROOT)}
