"""Former names of launchers."""

import pytest

FORMER = {
    "anatomy": "breakdown",
    "study": "studies.schedules",
    "pixel_study": "studies.per_pixel",
    "path_example": "studies.two_pixels",
    "shape_cost": "benchmarks.shape_cost",
    "benchmark_data": "benchmarks.data",
}


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_runs_the_new_command_and_says_so(run_python, former):
    done = run_python(["-m", f"experiments.{former}", "--help"], devices=1)
    assert f"python -m experiments.{FORMER[former]}" in done.stdout
    assert done.stderr.count("\n") == 1 and f"experiments.{FORMER[former]}" in done.stderr


def test_a_former_name_passes_flags_and_exit_codes_on(run_python):
    done = run_python(["-m", "experiments.anatomy", "--workdr=x"], devices=1, check=False)
    assert done.returncode == 2 and "--workdir" in done.stderr
