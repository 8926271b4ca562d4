"""Places as SLURM, Open MPI and GKE document their environments; flags come first."""

import pytest

from experiments.cli import clusters, distributed
from experiments.cli.clusters import Place
from vdm.errors import ConfigError

SLURM = {
    "SLURM_JOB_ID": "16386",  # 2 of the ports that belong to nobody
    "SLURM_STEP_NODELIST": "node[007,009-015],other",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "12288.0;tcp://10.0.0.1,10.0.1.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}

GKE_TPU = {"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "vdm-0.svc,vdm-1.svc,vdm-2.svc,vdm-3.svc"}
SLICES = {
    "MEGASCALE_COORDINATOR_ADDRESS": "vdm-slice-0-0.vdm:8080",
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (GKE_TPU, Place("vdm-0.svc:49152", 4, 2)),
        (GKE_TPU | SLICES, Place("vdm-slice-0-0.vdm:49152", 8, 6)),
        (SLURM, Place("node007:49154", 8, 5, (1,))),
        (SLURM | {"SLURM_STEP_NODELIST": "a-b[1-3]"}, Place("a-b1:49154", 8, 5, (1,))),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu3,gpu4"}, Place("gpu3:49154", 8, 5, (1,))),
        (
            SLURM | {"JAX_LOCAL_DEVICE_IDS": "0,1", "JAX_COORDINATOR_PORT": "9000"},
            Place("node007:9000", 8, 5, (0, 1)),
        ),
        (OPEN_MPI, Place("10.0.0.1:49155", 4, 3, (0,))),
        ({"SLURM_JOB_ID": "7"}, None),  # on the machine that submits
    ],
)
def test_places(environment, expected):
    assert clusters.detect(environment) == expected


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri"])
def test_an_incomplete_environment(name):
    with pytest.raises(ConfigError, match=f"incomplete .*{name}.*give --coordinator"):
        clusters.detect({**OPEN_MPI, name: ""} if name.endswith("uri") else _without(name))


def _without(name):
    return {key: value for key, value in OPEN_MPI.items() if key != name}


def test_flags_come_before_the_cluster(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert distributed.find("here:1", None, 0) == Place("here:1", 8, 0, (1,))
    assert distributed.find("here:1", 2, 1) == Place("here:1", 2, 1)
    with pytest.raises(ConfigError, match=r"--process_id=8: must be in 0\.\.7"):
        distributed.find(None, None, 8)


def test_nothing_of_jax_that_is_not_public(repository):
    files = [
        p for top in ("vdm", "experiments", "configs") for p in (repository / top).rglob("*.py")
    ]
    assert [str(path) for path in files if "jax._src" in path.read_text()] == []
