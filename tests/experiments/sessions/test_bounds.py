"""`evaluate --bound=...` and the demonstration: tables, records, kills and mistakes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def workdir(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def error(done, code):
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


BOUNDS = "--bound=continuous,dense@4,iwae@4:num_weights=2"
FLAGS = [BOUNDS, "--split=validation", "--repeats=2", "--randomisations=1"]


def numbers(folder):
    """{file: its numbers} of every record and table, without clocks."""
    found = {}
    for path in sorted((folder / "evaluations").glob("*bound*")):
        if path.suffix == ".json":
            text = json.dumps(json.loads(path.read_text(), object_hook=_without_clock))
        else:
            text = {name: array.tobytes() for name, array in np.load(path).items()}
        found[path.name] = text
    return found


def _without_clock(record):
    """Nor the revision, which may change while the test runs, nor the hash over all of it."""
    clocks = ("seconds", "git_revision", "record_sha256")
    return {n: v for n, v in record.items() if n not in clocks}


def test_table_records_and_a_killed_run_again(workdir, launch, data_dir, repository):
    """Killed by SIGKILL once the first record is there: no table; run again: the same numbers."""
    words = [sys.executable, "-m", "experiments.evaluate", f"--workdir={workdir}", *FLAGS]
    env = {**os.environ, "VDM_DATA_DIR": str(data_dir), "PYTHONPATH": str(repository)}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=repository, env=env, stdout=silent, stderr=silent)
    evaluations, deadline = workdir / "evaluations", time.monotonic() + 200
    while not list(evaluations.glob("*bound-continuous*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(evaluations.glob("*bound-table*"))
    before = numbers(workdir)
    assert before

    done = launch("evaluate", workdir, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert "2 network evaluations each: 200" in done.stdout  # announced before it starts
    assert done.stdout.index("iwae@4") < done.stdout.index("bits/dim")
    assert "T = 4, K = 2" in done.stdout and "T = 4, every term" in done.stdout
    after = numbers(workdir)
    assert {name: after.get(name) for name in before} == before
    check_records(workdir)
    assert launch("evaluate", workdir, *FLAGS).returncode == 0
    assert numbers(workdir) == after


def check_records(workdir):
    (path,) = (workdir / "evaluations").glob("*bound-iwae*.json")
    record = json.loads(path.read_text())
    assert record["bound"] == "iwae" and record["num_weights"] == 2
    assert (record["timesteps_train"], record["timesteps_eval"]) == (0, 4)
    assert record["split"] == "validation" and record["num_images"] == 100
    assert record["missing_images"] == 0 and record["parameters"] == "ema"
    assert {len(value) for value in record["hashes"].values()} == {64}
    assert set(record["hashes"]) == {"data", "checkpoint", "config"}
    assert {"versions", "devices", "matmul_precision"} <= set(record["provenance"])
    arrays = np.load(path.with_suffix(".npz"))
    (one, two) = (arrays[f"total: T = 4, K = {k}"] for k in (1, 2))
    assert one.shape == (2, 100) and two.shape == (1, 100)
    assert (two.mean(0) <= one.mean(0)).all()
    (table,) = (workdir / "evaluations").glob("*bound-table*.json")
    means = [row["estimate"]["mean"] for row in json.loads(table.read_text())["table"]]
    assert len(means) == 4 and means == sorted(means, reverse=True)


def test_the_elbo_is_a_bound_like_any_other(workdir, launch):
    """Its record is that of the end of training, in one format with the others'."""
    (path,) = (workdir / "evaluations").glob("test-*.json")
    before = json.loads(path.read_text())
    done = launch("evaluate", workdir, "--bound=elbo,continuous:repeats=2")
    assert done.returncode == 0, done.stderr
    after = json.loads(path.read_text())
    assert after["bits_per_dim"] == before["bits_per_dim"] and after["bound"] == "elbo"
    (other,) = (workdir / "evaluations").glob("*bound-continuous*.json")
    other = json.loads(other.read_text())
    assert set(after) | {"density", "fitted"} == set(other)
    assert set(after["bits_per_dim"]) == set(other["bits_per_dim"])


MISTAKES = {
    "name": (["--bound=elboo"], ["bound=elboo", "discrete, dense"]),
    "twice": (["--bound=dense,dense"], ["dense is named twice"]),
    "T": (["--bound=dense@0"], ["bound=dense@0", "1..1000000"]),
    "T by flag": (["--bound=iwae", "--timesteps=0"], ["bound=iwae@0", "1..1000000"]),
    "K": (["--bound=iwae", "--iwae_weights=3"], ["bound=iwae:num_weights=3", "power of two"]),
    "option of another": (["--bound=dense:num_weights=2"], ["dense:num_weights=2", "iwae, ode"]),
    "flag of another": (["--bound=dense", "--density=fitted"], ["--density=fitted", "continuous"]),
    "no convergence": (
        ["--bound=ode", "--ode_max_steps=1"],
        ["100 images have no value", "image 0"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_print_no_table(workdir, launch, case):
    flags, parts = MISTAKES[case]
    done = launch("evaluate", workdir, "--split=validation", *flags)
    line = error(done, 2)
    assert all(part in line for part in parts), line
    assert "bits/dim" not in done.stdout
    assert not list((workdir / "evaluations").glob("*bound*"))


def test_demonstration_of_the_two_decompositions(workdir, launch):
    flags = ["--split=validation", "--timesteps=5", "--trajectories=8", "--num_images=20"]
    done = launch("decompositions", workdir, *flags)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line]
    rows = {words[0]: words for words in lines if words[1:2] != ["-"]}
    assert {"denoising", "consistency", "consistency_kl"} <= set(rows)
    assert float(rows["consistency_kl"][1]) > float(rows["denoising"][1])
    assert "20 images of digits/validation" in done.stdout
    line = error(launch("decompositions", workdir, "--trajectories=1"), 2)
    assert "trajectories=1" in line
