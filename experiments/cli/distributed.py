"""Join the processes of one run: found under SLURM, Open MPI, GKE and on TPUs, or by flags."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from experiments.cli.agreement import fix
from experiments.cli.clusters import Place, detect
from experiments.cli.rendezvous import rendezvous
from vdm.errors import ConfigError

SHUTDOWN_SECONDS = 30
"""Seconds that an ending process waits for the others to end too."""


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    settings: Mapping[str, Any],
    timeout_seconds: float,
) -> None:
    """Connect this process with the others; afterwards JAX sees the devices of all of them.

    Only the first process still prints to standard output. Under SLURM, Open MPI, on GKE's TPUs and
    with all three flags the processes first meet, see `rendezvous`. On other TPU machines and on
    Kubernetes JAX alone can ask the cluster how many there are: there it waits for the missing, and
    settings are compared afterwards.

    Args:
      coordinator: host:port of the first process.
      num_processes: number of processes.
      process_id: number of this process. None, of all three, asks the cluster.
      settings: JSON-able values by name, which must be the same in all processes.
      timeout_seconds: longest wait for the others.

    Raises:
      ConfigError: no cluster is known, or see `rendezvous`; in every process.
    """
    import jax

    settings = {**settings, "jax": jax.__version__}
    place = find(coordinator, num_processes, process_id)
    if place is None:
        _connect_by_jax(coordinator, num_processes, process_id, settings, timeout_seconds)
    else:
        _connect(place, settings, timeout_seconds)
    # Every process computes the same numbers: one that prints them is enough.
    if jax.process_index():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def is_connected() -> bool:
    """Return whether this process is one of several that JAX has connected."""
    jax: Any = sys.modules.get("jax")
    # An import that was interrupted leaves a module without its parts.
    distributed = getattr(jax, "distributed", None)
    return distributed is not None and distributed.is_initialized() and jax.process_count() > 1


def explain_loss(message: str) -> str | None:
    """Return the message for an error of JAX's that comes of another process's end; None for others.

    Args:
      message: what JAX said.
    """
    import jax

    from vdm.runtime.heartbeats import HEARTBEAT_SECONDS, find_stopped

    lost = find_stopped(2.5 * HEARTBEAT_SECONDS)
    if not lost:
        return None
    who = "process " if len(lost) == 1 else "processes "
    return (
        f"{who}{', '.join(map(str, lost))} of {jax.process_count()} ended or stopped; look at its "
        f"output and its machine's log ({message}); run again to resume from the last checkpoint"
    )


def leave(code: int) -> NoReturn:
    """End this process without the others: JAX would wait for them, and then abort with a core dump."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def find(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Place | None:
    """Return the place of this process among all: from the flags, else from the cluster.

    None where flags are missing and no known cluster has started the process.

    Args:
      coordinator, num_processes, process_id: see `join`.

    Raises:
      ConfigError: a number out of range, or an incomplete environment.
    """
    given: dict[str, Any] = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    by_flag = {name: value for name, value in given.items() if value is not None}
    if len(by_flag) == len(given):
        place = Place(**by_flag)
    elif (detected := detect()) is None:
        return None
    else:
        place = dataclasses.replace(detected, **by_flag)
    index, count = place.process_id, place.num_processes
    if not 0 <= index < count:
        raise ConfigError(
            f"--process_id={index}: must be in 0..{count - 1} (--num_processes={count})"
        )
    return place


def _connect(place: Place, settings: Mapping[str, Any], timeout_seconds: float) -> None:
    import jax

    # Before JAX connects, whose core dump for a missing process would not say which one it is.
    rendezvous(place.coordinator, place.process_id, place.num_processes, settings, timeout_seconds)
    jax.distributed.initialize(
        coordinator_address=place.coordinator,
        num_processes=place.num_processes,
        process_id=place.process_id,
        local_device_ids=place.local_device_ids,
        initialization_timeout=max(1, round(timeout_seconds)),
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        # The place is known; JAX's own detection could find another one.
        cluster_detection_method="deactivate",
    )


def _connect_by_jax(coordinator, num_processes, process_id, settings, timeout_seconds) -> None:
    """Leave it to JAX to find the others, then compare the settings over its connection."""
    import jax

    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            initialization_timeout=max(1, round(timeout_seconds)),
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        missing = ", ".join(name for name, value in given.items() if value is None)
        raise ConfigError(
            "--distributed: no processes found to join, by SLURM, Open MPI, GKE or TPU "
            f"({type(error).__name__}: {error}); give {missing}"
        ) from error

    # Imported once JAX is connected: it asks for the devices.
    from vdm.runtime.processes import check_same

    for name, value in settings.items():
        check_same(name, json.dumps(value, sort_keys=True), fix(name))
