"""Place of this process among several, from the environment that SLURM, Open MPI or GKE's TPUs set.

Only variables of the cluster's own are read: SLURM's (srun(1), output environment variables), Open
MPI's (OMPI_*), and those that GKE sets in the pods of a TPU slice (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES)
and of several slices (MEGASCALE_*).
"""

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
_GKE_TPU = {"TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"}
_FIRST_PORT, _NUM_PORTS = 49152, 16384
"""The dynamic ports, which no service is assigned to (RFC 6335)."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The position of this process among all of a run.

    Attributes:
      coordinator: host:port of the first process.
      num_processes: number of processes.
      process_id: number of this process, 0 .. num_processes - 1.
      local_device_ids: numbers of this machine's accelerators that are this process's; None for all.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None


def detect(environment: Mapping[str, str] | None = None) -> Place | None:
    """Return this process's place, or None where no cluster that is known here started it.

    Args:
      environment: variables of the process; None reads `os.environ`.

    Raises:
      ConfigError: a cluster started it, but its environment is incomplete.
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
    # JAX's own variable, set by the user, overrides the cluster's.
    if named := environment.get("JAX_LOCAL_DEVICE_IDS"):
        place = dataclasses.replace(place, local_device_ids=tuple(map(int, named.split(","))))
    return place


def _readers(environment: Mapping[str, str]):
    # Open MPI first: under SLURM, mpirun's processes have the variables of both.
    yield _OPEN_MPI in environment, _open_mpi
    yield set(environment) >= _SLURM, _slurm
    yield set(environment) >= _GKE_TPU, _gke_tpu


def _slurm(environment: Mapping[str, str]) -> Place:
    # "node[007,009-015],other" and "node007,other" both begin with node007.
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", environment["SLURM_STEP_NODELIST"])
    if match is None:
        raise ValueError("SLURM_STEP_NODELIST is empty")
    host = match[1] + (match[2] or "")
    return Place(
        f"{host}:{_port(environment, int(environment['SLURM_JOB_ID']))}",
        int(environment["SLURM_NTASKS"]),
        int(environment["SLURM_PROCID"]),
        (int(environment["SLURM_LOCALID"]),),
    )


def _open_mpi(environment: Mapping[str, str]) -> Place:
    # "1531576320.0;tcp://10.0.0.1,10.0.1.1:34911": the job, and the addresses of the first machine.
    uri = environment[_OPEN_MPI]
    match = re.match(r"(\d+)\..*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))", uri)
    if match is None:
        raise ValueError(f"{_OPEN_MPI}={uri!r} holds no address")
    job, host = int(match[1]) >> 12, match[2] or match[3]  # Open MPI numbers jobs in steps of 4096
    return Place(
        f"{host}:{_port(environment, job)}",
        int(environment["OMPI_COMM_WORLD_SIZE"]),
        int(environment["OMPI_COMM_WORLD_RANK"]),
        (int(environment["OMPI_COMM_WORLD_LOCAL_RANK"]),),
    )


def _gke_tpu(environment: Mapping[str, str]) -> Place:
    # A pod per machine, numbered within its slice in the order of the host names.
    hosts = environment["TPU_WORKER_HOSTNAMES"].split(",")
    first, slices, this_slice = hosts[0], 1, 0
    if address := environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        first = address.partition(":")[0]  # its port is another service's
        slices = int(environment["MEGASCALE_NUM_SLICES"])
        this_slice = int(environment["MEGASCALE_SLICE_ID"])
    return Place(
        f"{first}:{_port(environment, 0)}",
        len(hosts) * slices,
        len(hosts) * this_slice + int(environment["TPU_WORKER_ID"]),
    )


def _port(environment: Mapping[str, str], job: int) -> str:
    """Return the coordinator's port, from the variable that sets it or else from the job's number.

    All processes of a job get the same; two jobs on one machine get different ones unless their
    numbers agree modulo _NUM_PORTS.
    """
    return environment.get("JAX_COORDINATOR_PORT") or str(_FIRST_PORT + job % _NUM_PORTS)
