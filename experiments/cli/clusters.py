"""Which of several processes this one is, as the environment says that SLURM and Open MPI set."""

import dataclasses
import os
import re
from collections.abc import Mapping

from vdm.errors import ConfigError

_SLURM = {
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
}
_OPEN_MPI = "OMPI_MCA_orte_hnp_uri"
_FIRST_PORT, _NUM_PORTS = 49152, 16384
"""The ports that belong to nobody."""


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


def detect(environment: Mapping[str, str] | None = None) -> Place | None:
    """This process's place, None where neither SLURM nor Open MPI started it.

    Raises:
      ConfigError: one of them did, but its environment is incomplete.
    """
    environment = os.environ if environment is None else environment
    reader = next((read for here, read in _readers(environment) if here), None)
    if reader is None:
        return None
    try:
        place = reader(environment)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"--distributed: the cluster's environment is incomplete ({type(error).__name__}: "
            f"{error}); give --coordinator, --num_processes and --process_id"
        ) from error
    if named := environment.get("JAX_LOCAL_DEVICE_IDS"):
        place = dataclasses.replace(place, local_device_ids=tuple(map(int, named.split(","))))
    return place


def _readers(environment: Mapping[str, str]):
    yield _OPEN_MPI in environment, _open_mpi
    yield set(environment) >= _SLURM, _slurm


def _slurm(environment: Mapping[str, str]) -> Place:
    # "node[007,009-015],other" and "node007,other" both begin with node007.
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", environment["SLURM_STEP_NODELIST"])
    if found is None:
        raise ValueError("SLURM_STEP_NODELIST is empty")
    host = found[1] + (found[2] or "")
    return Place(
        f"{host}:{_port(environment, int(environment['SLURM_JOB_ID']))}",
        int(environment["SLURM_NTASKS"]),
        int(environment["SLURM_PROCID"]),
        (int(environment["SLURM_LOCALID"]),),
    )


def _open_mpi(environment: Mapping[str, str]) -> Place:
    # "1531576320.0;tcp://10.0.0.1,10.0.1.1:34911": the job, and the addresses of the first machine.
    uri = environment[_OPEN_MPI]
    found = re.match(r"(\d+)\..*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))", uri)
    if found is None:
        raise ValueError(f"{_OPEN_MPI}={uri!r} holds no address")
    job, host = int(found[1]) >> 12, found[2] or found[3]  # Open MPI numbers jobs in steps of 4096
    return Place(
        f"{host}:{_port(environment, job)}",
        int(environment["OMPI_COMM_WORLD_SIZE"]),
        int(environment["OMPI_COMM_WORLD_RANK"]),
        (int(environment["OMPI_COMM_WORLD_LOCAL_RANK"]),),
    )


def _port(environment: Mapping[str, str], job: int) -> str:
    """One port for all processes of a job, seldom that of another job."""
    return environment.get("JAX_COORDINATOR_PORT") or str(_FIRST_PORT + job % _NUM_PORTS)
