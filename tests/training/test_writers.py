"""Metric files: what is written is read back, by TensorBoard's own reader too; cutting on resume."""

import json
import struct
import time

import pytest

from vdm.errors import ConfigError, DiskError
from vdm.training.writers import cut_to_step, make_writer, read_json_lines

NAMES = ("json_lines", "tensorboard")


def test_json_lines_round_trip(tmp_path):
    write = make_writer(NAMES, tmp_path, resumed_at=0)
    write(5, {"loss": 0.1, "rate": 1e-30})
    write(10, {"loss": 0.3})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 5, "loss": 0.1, "rate": 1e-30}, {"step": 10, "loss": 0.3}]
    assert read_json_lines(tmp_path / "metrics.jsonl") == lines


def tensorboard_records(folder):
    """The events of all files, by the length-prefixed framing of TFRecord."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def test_tensorboard_has_the_values_and_purges_on_resume(tmp_path):
    make_writer(NAMES, tmp_path, resumed_at=0)(5, {"loss": 0.5})
    make_writer(NAMES, tmp_path, resumed_at=4)(5, {"loss": 0.25})
    deadline = time.monotonic() + 30.0  # its thread writes when it likes
    while time.monotonic() < deadline:
        events = list(tensorboard_records(tmp_path / "tensorboard"))
        if sum(len(e.summary.value) for e in events) == 2:
            break
        time.sleep(0.1)
    values = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert sorted(values) == [(5, "loss", 0.25), (5, "loss", 0.5)]
    starts = [e.step for e in events if e.HasField("session_log")]
    assert 5 in starts  # TensorBoard hides what earlier sessions wrote from here on


def test_resuming_cuts_what_came_later(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "a": 1}\n{"step": 10, "a": 2}\n{"step": 15, "a": 3}\n')
    cut_to_step(path, 10)
    assert [line["step"] for line in read_json_lines(path)] == [5, 10]


def test_unknown_writer(tmp_path):
    with pytest.raises(ConfigError, match=r"'csv'.*json_lines, tensorboard"):
        make_writer(["csv"], tmp_path, 0)


def test_a_metrics_file_that_cannot_be_written(tmp_path):
    write = make_writer(["json_lines"], tmp_path / "missing", 0)
    with pytest.raises(DiskError, match="missing"):
        write(1, {"loss": 1.0})


def test_a_writer_without_its_package(tmp_path):
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_writer(["wandb"], tmp_path, 0)


def test_a_metrics_file_that_is_a_folder(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(DiskError, match="cannot write metrics"):
        make_writer(["json_lines"], tmp_path, 0)


def test_a_resumed_step_is_logged_once(tmp_path):
    """The line written just before the kill is measured again after it."""
    make_writer(["json_lines"], tmp_path, 0)(5, {"loss": 0.5})
    write = make_writer(["json_lines"], tmp_path, resumed_at=5)
    write(5, {"loss": 0.5})
    write(6, {"loss": 0.25})
    assert [line["step"] for line in read_json_lines(tmp_path / "metrics.jsonl")] == [5, 6]
