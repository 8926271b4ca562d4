"""Commands under their former names, for one release: the new one runs, and a line says so."""

import runpy
import sys


def forward(former: str, name: str) -> None:
    """Run the launcher `experiments.NAME` on this command line."""
    line = f"experiments.{former} is now experiments.{name}; the former name goes with the next release"
    print(line, file=sys.stderr, flush=True)
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
