"""Fault: a disk that is full in the middle of a save of two processes. Both see it, none waits."""

import socket
import subprocess
import sys

import pytest

CODE = """
import os, sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
from jax.experimental import multihost_utils
from vdm.errors import DiskError
from vdm.training.checkpoint import Checkpoints

# Random bits do not compress: each process writes 256 KiB of them.
bits = np.random.default_rng(0).integers(0, 2**32, (2, 2**16), dtype=np.uint32)
split = NamedSharding(jax.make_mesh((2,), ("devices",)), P("devices"))
whole = jax.make_array_from_callback(bits.shape, split, lambda place: bits[place])
store, filler = Checkpoints(folder + "/checkpoints"), folder + "/filler"

def fill(kib):
    if index == 0:
        with open(filler, "wb") as file:
            file.write(bytes(os.statvfs(folder).f_bavail * 4096 - kib * 1024))
    multihost_utils.sync_global_devices("filled")

def save(step):
    try:
        store.save(step, {"a": whole}, {"b": whole[:, :1]}, {})
        print("saved", step, flush=True)
    except DiskError:
        print("failed", step, flush=True)
    multihost_utils.sync_global_devices("tried")

fill(100)   # seen before anything is written
save(1)
if index == 0:
    os.unlink(filler)
fill(520)   # enough for the arrays, not for the index files
save(2)
if index == 0:
    os.unlink(filler)
multihost_utils.sync_global_devices("emptied")
save(3)
save(4)
print(store.steps(), sorted(os.listdir(folder + "/checkpoints")), flush=True)
"""


@pytest.mark.slow
def test_two_processes_agree_that_a_save_failed(tmpfs, repository):
    folder = tmpfs("3m")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipe = subprocess.PIPE
    options = {"cwd": repository, "text": True, "stdout": pipe, "stderr": pipe}
    words = [[sys.executable, "-c", CODE, str(i), str(port), str(folder)] for i in (0, 1)]
    processes = [subprocess.Popen(words[i], **options) for i in (0, 1)]
    try:
        ended = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected = ["failed 1", "failed 2", "saved 3", "saved 4", "[3, 4] ['3', '4']"]
    for output, errors in ended:
        assert output.splitlines()[-5:] == expected, (output, errors)
