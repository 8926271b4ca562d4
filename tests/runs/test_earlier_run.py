"""A run that an earlier revision wrote: it evaluates to the same number, restores and resumes."""

import json
import os

import pytest

from vdm import runs
from vdm.runs.config_identity import config_hash

TOTAL = 1.7827035
"""Bits/dim that the revision which trained it wrote, and that were evaluated again since."""

RESUMED = {
    "train.num_steps": 3002,
    "train.num_samples": 0,
    "evaluate.randomisations": 1,
    "evaluate.split": "validation",
}


def environment(folder):
    """Data in a cache of their own, compiled programs in the tests'."""
    return {"VDM_DATA_DIR": str(folder / "cache")}


def test_its_configuration_builds_the_same_model(earlier_run, tmp_path):
    run = runs.open(earlier_run)
    parts = runs.build(run.config, cache_dir=tmp_path / "cache")
    assert parts.model == run.model and parts.dataset.spec.content_hash == run.spec.content_hash
    assert config_hash(parts.config) == config_hash(run.identity["config"])


@pytest.mark.slow
def test_evaluates_to_the_same_number(earlier_run, run_python, tmp_path):
    words = ["-m", "experiments.evaluate", f"--workdir={earlier_run}"]
    run_python(words, devices=1, timeout=300, env=environment(tmp_path))
    (path,) = (earlier_run / "evaluations").glob("test-*.json")
    assert abs(json.loads(path.read_text())["bits_per_dim"]["total"]["mean"] - TOTAL) < 1e-6


@pytest.mark.slow
def test_resumes(earlier_run, run_python, tmp_path):
    words = ["-m", "experiments.train", "--config=configs/digits.py", f"--workdir={earlier_run}"]
    words += [f"--config.{field}={value}" for field, value in RESUMED.items()]
    words.append(f"--allow_change={','.join(RESUMED)}")
    done = run_python(words, devices=1, timeout=300, env=environment(tmp_path))
    assert "at step 3000" in done.stdout
    assert sorted(os.listdir(earlier_run / "checkpoints")) == ["3000", "3002"]
    written = json.loads((earlier_run / "config.json").read_text())
    assert written["changes"][-1]["train.num_steps"] == [3000, 3002]
    (path,) = (earlier_run / "evaluations").glob("validation-step3002-*.json")
    losses = [json.loads(line) for line in (earlier_run / "metrics.jsonl").read_text().splitlines()]
    validated = {e["step"]: e.get("validation_bits_per_dim") for e in losses if len(e) < 4}
    found = json.loads(path.read_text())["bits_per_dim"]["total"]["mean"]
    # Two more steps at the end of a cosine decay change next to nothing.
    assert abs(found - validated[3000]) < 0.01
