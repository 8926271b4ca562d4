"""Join the processes of one run: found by JAX under SLURM, Open MPI, GKE and on TPUs, or by flags."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any

from experiments.cli.rendezvous import rendezvous
from vdm.errors import ConfigError

SHUTDOWN_SECONDS = 30
"""How long a process that ends waits for the others to end too."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Attributes:
    coordinator: host:port of the first process.
    num_processes: how many there are.
    process_id: which one this is.
    local_device_ids: of this machine's accelerators, those of this process; None for all.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    settings: Mapping[str, Any],
    timeout_seconds: float,
) -> None:
    """Connects this process with the others; afterwards all devices of all of them are there.

    Only the first process still prints to standard output.

    Args:
      coordinator, num_processes, process_id: as in `Place`; None for what the cluster tells.
      settings: what must be the same in all processes, JSON-able, by name.
      timeout_seconds: how long to wait for the others.

    Raises:
      ConfigError: this is no cluster that JAX knows, or see `rendezvous`; in every process.
    """
    import jax

    place = find(coordinator, num_processes, process_id, timeout_seconds)
    rendezvous(
        place.coordinator,
        place.process_id,
        place.num_processes,
        {**settings, "jax": jax.__version__},
        timeout_seconds,
    )
    jax.distributed.initialize(
        coordinator_address=place.coordinator,
        num_processes=place.num_processes,
        process_id=place.process_id,
        local_device_ids=place.local_device_ids,
        initialization_timeout=max(1, round(timeout_seconds)),
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        cluster_detection_method="deactivate",
    )
    if place.process_id:
        sys.stdout = open(os.devnull, "w")


def find(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: float
) -> Place:
    """Where this process is: what the flags say, and for the rest what the cluster says."""
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    if None in given.values():
        detected = _detect(coordinator, num_processes, process_id, timeout)
    else:
        detected = (coordinator, num_processes, process_id, None)
    missing = [name for name, value in zip(given, detected, strict=False) if value is None]
    if missing:
        raise ConfigError(
            "--distributed: no SLURM, Open MPI, GKE or TPU environment found; "
            f"give {', '.join(missing)}"
        )
    address, count, index, local = detected
    if not 0 <= index < count:
        raise ConfigError(
            f"--process_id={index}: must be in 0..{count - 1} (--num_processes={count})"
        )
    return Place(address, count, index, None if local is None else tuple(local))


def _detect(coordinator, num_processes, process_id, timeout: float) -> tuple:
    # What jax.distributed.initialize calls itself; needed earlier, for the roll call.
    from jax._src import clusters

    named = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    local = [int(word) for word in named.split(",")] if named else None
    try:
        return clusters.ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, num_processes, process_id, local, None, max(1, round(timeout))
        )
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"--distributed: the cluster's environment is incomplete ({type(error).__name__}: "
            f"{error}); "
            "give --coordinator, --num_processes and --process_id"
        ) from error
