"""The record of a step and the metric in it: every flipped bit is found, wrong types are named."""

import pytest

from vdm.errors import CheckpointError
from vdm.runs import evaluations
from vdm.runtime.hashes import sealed
from vdm.training import checkpoint_record as records

METRIC = "validation_bits_per_dim"
ARRAYS = {"ema": {"['a']": {"shape": [2], "dtype": "float32", "sha256": 64 * "0"}}}


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def step(tmp_path):
    """The folder of step 4, with a record of its metric."""
    folder = tmp_path / "4"
    (folder / "record").mkdir(parents=True)
    record = records.make_record({"evaluated": True}, ARRAYS, {METRIC: 2.5})
    records.write_record(tmp_path, 4, record)
    return folder


def metric(step, warnings):
    return records.Metrics(step.parent, METRIC, warnings.append).of(4)


def read(step):
    try:
        return records.read_record(step.parent, 4)
    except ValueError:
        return None


def test_a_flipped_bit_in_any_byte_is_found(step, warnings):
    """Fault: a bit of each byte of the record, those of the metric and of its name among them."""
    path, original = step / "record" / "metadata", read(step)
    content = path.read_bytes()
    assert metric(step, warnings) == 2.5 and not warnings
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        warnings.clear()
        if read(step) is None:
            assert metric(step, warnings) is None and str(path) in warnings[0], damaged
        else:
            assert read(step) == original and metric(step, warnings) == 2.5, damaged


WRONG = {
    "empty": "",
    "truncated": '{"validation_bits',
    "other JSON": "[]",
    "binary": "\x00",
    "null": '{"validation_bits_per_dim": null}',
    "text": '{"validation_bits_per_dim": "1.0"}',
    "bool": '{"validation_bits_per_dim": true}',
    "not finite": '{"validation_bits_per_dim": NaN}',
    "too large": '{"validation_bits_per_dim": 1' + 400 * "0" + "}",
    "lists within lists": "[" * 99_999,
    "a letter of its name": '{"validation_bitz_per_dim": 1.0}',
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
def test_a_damaged_file_of_an_earlier_revision_is_named(step, warnings, content):
    """Fault: wrong JSON, types and names in metrics/metrics beside a record without a metric."""
    record = records.read_record(step.parent, 4)
    del record["metrics"]
    records.write_record(step.parent, 4, sealed(record))
    path = step / "metrics" / "metrics"
    path.parent.mkdir()
    path.write_text(content)
    assert metric(step, warnings) is None
    (line,) = warnings
    assert line.startswith("WARNING") and str(path) in line and "step 4" in line


def test_a_record_of_lists_within_lists_is_damaged(step, warnings):
    (step / "record" / "metadata").write_text("[" * 99_999)
    assert read(step) is None and metric(step, warnings) is None and warnings
    with pytest.raises(CheckpointError):
        records.saved_ema_hash(step.parent, 4)
    assert evaluations.read(step / "record" / "metadata", {}).fault == "damaged"


def test_a_record_that_has_a_metric_needs_no_other_file(step, warnings):
    """Fault: any metrics file beside it."""
    (step / "metrics").mkdir()
    (step / "metrics" / "metrics").write_text('{"validation_bits_per_dim": null}')
    assert metric(step, warnings) == 2.5 and not warnings
