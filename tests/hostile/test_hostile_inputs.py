"""Hostile inputs: each ends in one line and exit code 2, 3 or 5, and writes nowhere else."""

import shutil

import pytest

from tests.hostile.files import FILES
from tests.hostile.folders import FOLDERS
from tests.hostile.running import MAX_BYTES, run_all
from tests.runs.conftest import tiny_config, tiny_run  # noqa: F401

pytestmark = pytest.mark.slow


def faults(outcomes, codes):
    """{case: what is wrong with how it ended}."""
    wrong = {}
    for name, outcome in outcomes.items():
        lines = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
        if outcome.code not in codes or len(lines) != 1:
            wrong[name] = f"code {outcome.code}: {outcome.stderr[-1500:]}"
        elif outcome.peak > MAX_BYTES or "does not fit in memory" in lines[0]:
            wrong[name] = f"{outcome.peak / 1e6:.0f} MB: {lines[0]}"
        elif outcome.changed:
            wrong[name] = f"changed {outcome.changed}"
    return wrong


def test_data_files(fork_python, tmp_path):
    """Archives, arrays, pickles and images, through `prepare_data`."""
    outcomes = run_all(fork_python, FILES, tmp_path)
    assert len(outcomes) >= 60
    assert faults(outcomes, {2, 3}) == {}


def test_work_folders(fork_python, tmp_path, tiny_run):  # noqa: F811
    """Configurations, checkpoints and records, through `evaluate` and `sample`."""

    def in_copy(build):
        def build_in(folder):
            shutil.copytree(tiny_run[0], folder / "run")
            return build(folder)

        return build_in

    cases = {name: in_copy(build) for name, build in FOLDERS.items()}
    assert faults(run_all(fork_python, cases, tmp_path), {2, 3, 5}) == {}
