"""Flags that every launcher has: their names and definitions."""

from absl import flags

FLAGS = flags.FLAGS
DISTRIBUTED_FLAGS = (
    "distributed",
    "coordinator",
    "num_processes",
    "process_id",
    "join_timeout_seconds",
)
"""Flags of several processes, which every launcher has and some refuse."""

SHARED_FLAGS = ("debug", "verbosity", *DISTRIBUTED_FLAGS)
"""Flags that every launcher has."""


def define_shared_flags() -> None:
    """Define the flags of every launcher, once."""
    # Here, not at import: a module that only imports this one must not gain flags.
    if "debug" not in FLAGS:
        text = "Print the whole traceback of an error, and stop at the first NaN."
        flags.DEFINE_bool("debug", False, text, module_name=__name__)
        _define_distributed_flags()


def _define_distributed_flags() -> None:
    text = (
        "Run as one of several processes that share the work; SLURM, Open MPI, GKE and TPU pods say "
        "which one, elsewhere the three flags that follow do."
    )
    flags.DEFINE_bool("distributed", False, text, module_name=__name__)
    default = "Default: as the cluster says."
    text = f"Address HOST:PORT at which process 0 is reached. {default}"
    flags.DEFINE_string("coordinator", None, text, module_name=__name__)
    for name, text in (
        ("num_processes", f"Number of processes. {default}"),
        ("process_id", f"Number of this process, from 0. {default}"),
    ):
        flags.DEFINE_integer(name, None, text, lower_bound=0, module_name=__name__)
    text = "Seconds that a process waits for the others to join before it gives up."
    flags.DEFINE_integer("join_timeout_seconds", 300, text, lower_bound=1, module_name=__name__)
