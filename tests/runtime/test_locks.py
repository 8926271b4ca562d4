"""One holder at a time, with locks of the system and without, and nothing left by a killed one."""

import errno
import platform
import signal
import subprocess
import sys

import pytest

from vdm.runtime import locks

HOLD = """
import errno, fcntl, pathlib, platform, socket, sys, time
path, form, host = sys.argv[1:]
def missing(*_):
    raise OSError(errno.ENOLCK, "No locks available")
if form == "soft":
    fcntl.flock = missing
if host:
    socket.gethostname = platform.node = lambda: host
from vdm.runtime.locks import take
with take(pathlib.Path(path)):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["flock", "soft"])
def form(request, monkeypatch):
    """The system's lock, and the one for file systems that refuse it."""

    def missing(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param == "soft":
        monkeypatch.setattr("fcntl.flock", missing)
    return request.param


@pytest.fixture
def hold(tmp_path, repository):
    """`hold(form, host)`: a process that holds `tmp_path / "lock"`, and its end by SIGKILL."""
    started = []

    def start(form, host=""):
        args = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), form, host]
        process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, cwd=repository)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        kill(process)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def test_one_holder_and_a_killed_one_leaves_no_lock(form, hold, tmp_path):
    path = tmp_path / "lock"
    owner = hold(form)
    named = f"process {owner.pid} on {platform.node()}"
    with pytest.raises(locks.HeldError, match=named):
        locks.take(path)
    with pytest.raises(locks.HeldError, match=named):  # having been refused has freed nothing
        locks.take(path)
    told = []

    def wait(text):
        told.append(text)
        kill(owner)

    with locks.take(path, wait):
        assert len(told) == 1 and told[0].startswith(named)
        with pytest.raises(locks.HeldError):
            locks.take(path)
    with locks.take(path, pytest.fail):
        pass


def test_a_soft_lock_of_another_host_is_kept_and_named(hold, tmp_path, monkeypatch):
    """Nothing here tells whether its process lives; the user can."""
    kill(hold("soft", "elsewhere"))
    monkeypatch.setattr("filelock.FileLock", locks.filelock.SoftFileLock)
    marker = tmp_path / "lock.soft"
    with pytest.raises(locks.HeldError, match=rf"on elsewhere .*delete {marker}"):
        locks.take(tmp_path / "lock")
    marker.unlink()
    with locks.take(tmp_path / "lock", pytest.fail):
        pass


def test_without_fcntl(run_python, tmp_path):
    """As on Windows: data can be imported and locks be taken."""
    code = f"""
import os, pathlib, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import vdm.data
from vdm.runs import folder, parts
for name in ("statvfs", "uname", "getuid"):
    delattr(os, name)
parts.use_compilation_cache()
path = pathlib.Path({str(tmp_path)!r})
folder.check_writable(path)
with folder.locked(path):
    try:
        folder.locked(path).__enter__()
    except folder.ConfigError as error:
        print(error)
"""
    assert "in use by process " in run_python(code, devices=1, env={"HOME": str(tmp_path)}).stdout
