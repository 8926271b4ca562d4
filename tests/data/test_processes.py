"""Two real processes over loopback: disjoint shares that make up the global batch, in its order."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np

from vdm.data import load
from vdm.data.augment import Augmentation
from vdm.data.batches import train_batch

WORKER = """
import sys
import jax, numpy as np

address, index, cache, out = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(index))
from vdm.runtime import devices
from vdm.data import load
from vdm.data.augment import Augmentation
from vdm.data.batches import train_batch

data = load("digits", cache_dir=cache)
mesh = devices.make_mesh()
augmentation = Augmentation(flip=True, rotate=True)
assert jax.process_count() == 2 and mesh.devices.size == 4
share = (jax.process_index(), jax.process_count())
found = {}
for step in (0, 1, 200):
    host = train_batch(data, 3, step, 24, "train", *share, augmentation)
    placed = devices.place_share(host, mesh)
    assert placed.images.shape == (24, 8, 8, 1) and len(host.images) == 12
    for name in ("images", "index", "conditioning"):
        for shard in getattr(placed, name).addressable_shards:
            found[f"{step}-{name}-{shard.index[0].start or 0}"] = np.asarray(shard.data)
np.savez(out, **found)
print("done", flush=True)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_two(tmp_path, repository) -> list:
    address = f"127.0.0.1:{free_port()}"
    flags = "--xla_force_host_platform_device_count=2"
    env = {**os.environ, "PYTHONPATH": str(repository), "XLA_FLAGS": flags}
    words = [[address, str(n), str(tmp_path), str(tmp_path / f"{n}.npz")] for n in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *each],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for each in words
    ]
    try:
        outputs = [worker.communicate(timeout=200) for worker in workers]
    finally:
        for worker in workers:
            if worker.poll() is None:  # SIGTERM would be swallowed
                os.killpg(worker.pid, signal.SIGKILL)
                worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    return [dict(np.load(tmp_path / f"{n}.npz")) for n in range(2)]


def test_shares_of_two_real_processes(tmp_path, repository):
    data = load("digits", cache_dir=tmp_path)
    shares = run_two(tmp_path, repository)
    assert not set(shares[0]) & set(shares[1])
    together = {**shares[0], **shares[1]}
    for step in (0, 1, 200):
        whole = train_batch(data, 3, step, 24, augmentation=Augmentation(flip=True, rotate=True))
        for name in ("images", "index", "conditioning"):
            parts = [together[f"{step}-{name}-{start}"] for start in range(0, 24, 6)]
            np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, name))
        # The first half of the batch is the first process's.
        first = [shares[0][f"{step}-index-{start}"] for start in (0, 6)]
        np.testing.assert_array_equal(np.concatenate(first), whole.index[:12])
