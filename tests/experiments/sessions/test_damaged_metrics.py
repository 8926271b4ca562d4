"""A run whose metrics.jsonl was damaged, resumed: good lines kept, no step twice, one warning."""

import json
import shutil

import pytest

from tests.experiments.conftest import repeatable
from vdm.training.metrics_file import read_json_lines

pytestmark = pytest.mark.slow


def without_clocks(workdir):
    lines = read_json_lines(workdir / "metrics.jsonl")
    return [repeatable(line) for line in lines]


def test_a_run_with_a_damaged_log_resumes(finished, launch, tmp_path):
    """Cut line, NULs, no UTF-8, `123`, no step, a line of 2 MB, a torn end; resumed at 9 of 12."""
    resumed = tmp_path / "run"
    shutil.copytree(finished[0], resumed)
    shutil.rmtree(resumed / "checkpoints" / "12")
    first, *rest = (resumed / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damage = [first[:30] + b"\n", b"\0" * 100 + b"\n", first.replace(b"step", b"st\xe5p")]
    damage += [b"123\n", b'{"loss": 1.0}\n', b"[" * 2_000_000 + b"\n"]
    torn = b'{"step": 12, "bits_'
    (resumed / "metrics.jsonl").write_bytes(b"".join([first, *damage, *rest, torn]))

    done = launch("train", resumed)
    assert done.returncode == 0, done.stderr
    assert without_clocks(resumed) == without_clocks(finished[0])
    assert (resumed / "metrics.damaged.jsonl").read_bytes() == b"".join([*damage, torn, b"\n"])
    warnings = [line for line in done.stderr.splitlines() if "metrics.jsonl" in line]
    assert len(warnings) == 1 and "(2-7, " in warnings[0], warnings
    # Nothing damaged is left for the next reader.
    text = (resumed / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()] == [4, 6, 8, 12, 12]


def test_readers_name_the_damage_and_draw_the_rest(finished, fork_python, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join([lines[0], b"\xff\n", *lines[1:]]))
    words = ["-m", "experiments.curves", f"--workdirs={folder}", f"--out={tmp_path / 'out'}"]
    done = fork_python(words, devices=1)
    assert done.stderr.count("WARNING") == 1 and "(2)" in done.stderr
    rows = (tmp_path / "out" / "learning.csv").read_text().splitlines()
    steps = [row.split(",")[2] for row in rows if ",train," in row]
    assert steps == ["4", "8", "12"]
