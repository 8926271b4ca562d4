"""Learning curves from the logs of runs, drawn and as a table."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from experiments.reports import learning
from vdm.errors import CheckpointError
from vdm.runs import history
from vdm.runs.defaults import default_config

DATA = {"name": "digits", "shape": [8, 8, 1], "num_levels": 17, "content_hash": "0"}
CONFIG = json.dumps({"config": default_config(), "data": {**DATA, "split_sizes": {}}})


@pytest.fixture
def logged(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    numbers = [(10, 4.0), (20, 3.0), (30, 2.5)]
    lines = [
        {"step": s, "images_seen": 8 * s, "seconds": s / 5, "bits_per_dim": b} for s, b in numbers
    ]
    lines.insert(2, {"step": 20, "validation_bits_per_dim": 3.25})
    lines.insert(3, {"step": 20, "images_seen": 160})  # such as samples: no loss
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 40, "bits')
    return folder


def test_what_a_run_logged(logged):
    train, validation = history.training_curves(logged), history.validation_curves(logged)
    assert train["images"].tolist() == [80, 160, 240] and train["train"].tolist() == [4, 3, 2.5]
    assert validation["step"].tolist() == [20] and validation["validation"].tolist() == [3.25]


def test_the_gammas_that_training_drew(finished, logged):
    drawn = history.drawn_gammas(finished[0])
    train = history.training_curves(finished[0])
    assert drawn["images"].tolist() == train["images"].tolist()
    values = np.stack([drawn[share] for share in ("0.05", "0.25", "0.5", "0.75", "0.95")])
    assert (np.diff(values, axis=0) > 0).all()
    assert not len(history.drawn_gammas(logged)["images"])  # as runs of before it was logged


def test_written(logged, tmp_path):
    path = learning.write(tmp_path / "out", {"one": logged, "two": logged})
    assert Image.open(path).size[0] > 500
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    rows = list(csv.DictReader(path.with_suffix(".csv").open()))
    assert len(rows) == 8
    found = [(r["step"], float(r["bits_per_dim"])) for r in rows if r["split"] == "validation"]
    assert found == [("20", 3.25)] * 2


def test_the_launcher(launch_curves, finished, tmp_path):
    done = launch_curves(finished[0], tmp_path)
    assert done.returncode == 0 and (tmp_path / "learning.png").stat().st_size > 1000, done.stderr


def test_a_folder_without_numbers(launch_curves, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no run" in launch_curves(tmp_path / "empty", tmp_path / "out").stderr
    (tmp_path / "empty" / "config.json").write_text(CONFIG)
    done = launch_curves(tmp_path / "empty", tmp_path / "out")
    assert done.returncode == CheckpointError.exit_code
    assert "nothing is logged in it yet" in done.stderr and not (tmp_path / "out").exists()


@pytest.fixture
def launch_curves(fork_python):
    def launch(workdir, out):
        words = ["-m", "experiments.curves", f"--workdirs={workdir}", f"--out={out}"]
        return fork_python(words, devices=1, check=False)

    return launch
