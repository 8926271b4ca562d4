"""Fault: a damaged metric in a step's record, and in the metrics file of an earlier revision."""

import json
import shutil

import pytest

from vdm.runtime.hashes import sealed


@pytest.mark.slow
def test_training_falls_back_and_saves_again(finished, launch, tmp_path):
    """A digit of the newest step's metric; null as that of the best: two warnings, no TypeError."""
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(workdir / "evaluations")
    newest, best = (workdir / "checkpoints" / step for step in ("12", "6"))

    # One digit of the value that the best checkpoint is chosen by.
    text = (newest / "record" / "metadata").read_text()
    value = str(json.loads(text)["content"]["metrics"]["validation_bits_per_dim"])
    (newest / "record" / "metadata").write_text(text.replace(value, f"0{value[1:]}"))

    # As an earlier revision wrote it, and then damaged.
    record = json.loads((best / "record" / "metadata").read_text())["content"]
    del record["metrics"]
    (best / "record" / "metadata").write_text(json.dumps(sealed(record)))
    (best / "metrics").mkdir()
    (best / "metrics" / "metrics").write_text('{"validation_bits_per_dim": null}')

    done = launch("train", workdir)
    assert done.returncode == 0 and "at step 9" in done.stdout, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warmup_steps" not in line]
    assert len(warnings) == 2 and all(line.startswith("WARNING: ") for line in warnings), warnings
    assert str(newest) in warnings[0] and str(best / "metrics" / "metrics") in warnings[1]
    again = json.loads((newest / "record" / "metadata").read_text())["content"]
    assert str(again["metrics"]["validation_bits_per_dim"]) == value
