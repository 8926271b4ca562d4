"""The page of schedules from the command line, and the study's table."""

import csv
import re

import numpy as np
import pytest

from experiments.studies import schedules_summary
from experiments.studies.schedules_summary import Result


@pytest.mark.slow
def test_the_page_of_a_trained_and_of_an_adaptive_schedule(launch, fork_python, data_dir, tmp_path):
    folders = [tmp_path / name for name in ("line", "adaptive")]
    changes = (
        {"schedule.name": "linear"},
        {"schedule.name": "rational_spline", "objective.times": "adaptive"},
    )
    for folder, overrides in zip(folders, changes, strict=True):
        done = launch("train", folder, overrides=overrides)
        assert done.returncode == 0, done.stderr
    out = tmp_path / "page"
    words = [
        "-m",
        "experiments.schedules",
        f"--workdirs={','.join(map(str, folders))}",
        f"--out={out}",
    ]
    words += ["--draws=3", "--gradients=3"]
    env = {"VDM_DATA_DIR": str(data_dir)}
    done = fork_python(words, devices=1, env=env, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    page = (out / "index.html").read_text()
    assert len(re.findall("<img", page)) == 5
    rows = list(csv.DictReader((out / "variance.csv").open()))
    assert [(row["run"], row["times"]) for row in rows] == [
        (run, times) for times in ("iid", "stratified") for run in ("line", "adaptive")
    ]
    assert float(rows[0]["gain_over_straight"]) == pytest.approx(1.0)  # a line is its own line
    curves = list(csv.DictReader((out / "curves.csv").open()))
    line = [row for row in curves if row["run"] == "line"]
    t, gamma = (np.array([float(row[n]) for row in line]) for n in ("t", "gamma_after"))
    np.testing.assert_allclose(gamma, gamma[0] + t * (gamma[-1] - gamma[0]), atol=1e-5)
    density = np.array([float(row["density_after"]) for row in line])
    assert np.trapezoid(density, gamma) == pytest.approx(1.0, rel=1e-3)


def test_the_study_averages_logarithms_between_seeds():
    values = {"linear": (2.0, 8.0), "edm": (1.0, 1.0)}
    results = [
        Result(name, str(seed), {"bits_per_dim": 2.0 + seed, "iid": v, "stratified": 1.0})
        for name, pair in values.items()
        for seed, v in enumerate(pair)
    ]
    table = schedules_summary.summary(schedules_summary.by_schedule(results))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["linear"]["iid"] == pytest.approx(4.0)
    assert rows["edm"]["iid_gain"] == pytest.approx(4.0)
    assert rows["linear"]["iid_gain"] == pytest.approx(1.0)
    assert rows["edm"]["bits_per_dim"] == pytest.approx(2.5)
    reach = 12.7062 * np.std(np.log([2.0, 8.0]), ddof=1) / 2**0.5
    assert rows["edm"]["iid_gain_95"] == pytest.approx(
        (4 / np.exp(reach), 4 * np.exp(reach)), rel=1e-3
    )
    assert schedules_summary.axes(3)[0]["seed"] == ("0", "1", "2")
