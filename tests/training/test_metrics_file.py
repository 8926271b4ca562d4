"""Damaged metric files: what is good is kept on both sides, what is not is named and put aside."""

import json
import os
import re

import numpy as np
import pytest

from vdm.training.metrics_file import cut_to_step, last_step, read_json_lines
from vdm.training.metrics_lines import MAX_LINE_BYTES

RECORDS = [{"step": 5 * n, "a": n / 7, "b/c": -1e-30 * n} for n in range(1, 9)]
LINES = [json.dumps(record).encode() + b"\n" for record in RECORDS]

DAMAGE = {
    "cut": LINES[3][:20] + b"\n",
    "nul bytes": b"\0" * 4096 + b"\n",
    "not UTF-8": LINES[3].replace(b"step", b"st\xe5p"),
    "a flipped bit": LINES[3].replace(b'"a"', b'"a\xa2'),
    "a number": b"123\n",
    "a list": b"[1, 2]\n",
    "no step": b'{"a": 1.5}\n',
    "a step of text": b'{"step": "20", "a": 1.5}\n',
    "a step below zero": b'{"step": -20, "a": 1.5}\n',
    "a step that is true": b'{"step": true, "a": 1.5}\n',
    "a value of text": b'{"step": 20, "a": "0.5"}\n',
    "a value of null": b'{"step": 20, "a": null}\n',
    "a list as value": b'{"step": 20, "a": [1.5]}\n',
    "a step out of order": LINES[3].replace(b"20", b"90"),
    "a step of long ago": LINES[3].replace(b"20", b"2"),
    "too many digits": b'{"step": 20, "a": ' + b"9" * 5000 + b"}\n",
    "nested": b"[" * 100_000 + b"\n",
    "a long line": b"x" * (3 * MAX_LINE_BYTES) + b"\n",
    "empty": b"\n",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_in_the_middle_loses_that_line_alone(tmp_path, capfd, kind):
    """One line of the middle damaged; reading passes it over, resuming puts it aside."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join([*LINES[:3], DAMAGE[kind], *LINES[4:]]))
    good = RECORDS[:3] + RECORDS[4:]
    assert read_json_lines(path) == good
    assert last_step(path) == 40
    assert re.search(rf"WARNING: {path}: 1 .*\(4\)", capfd.readouterr().err)

    assert cut_to_step(path, 30) == [RECORDS[5]]
    assert read_json_lines(path) == good[:5]
    assert path.read_bytes() == b"".join(LINES[:3] + LINES[4:6])
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == DAMAGE[kind]
    assert len(os.listdir(tmp_path)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(rf"WARNING: {path}: 1 .*\(4\).*metrics\.damaged\.jsonl", line)


TORN = [LINES[6][:14], b"\n", b"\0\0", LINES[6] + LINES[7][:4], LINES[0][:14] + b"\n"]


@pytest.mark.parametrize("torn", TORN)
def test_a_torn_end_is_put_aside_and_the_file_shortened_in_place(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES[:6]) + torn)
    inode = path.stat().st_ino
    cut_to_step(path, 30)
    assert path.read_bytes() == b"".join(LINES[:6]) and path.stat().st_ino == inode
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes().strip() in torn


def test_a_record_whole_but_for_its_newline_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES[:3])[:-1])
    assert read_json_lines(path) == RECORDS[:3]
    assert cut_to_step(path, 15) == [RECORDS[2]]
    assert path.read_bytes() == b"".join(LINES[:3])


def test_other_hands_may_write_json_as_they_like(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{ "a":1,"step":5}\r\n{"step": 6, "\\u00e9": NaN, "n": 12345678901234567890123}\n'
    )
    steps = [record["step"] for record in read_json_lines(path)]
    cut_to_step(path, 6)
    assert steps == [record["step"] for record in read_json_lines(path)] == [5, 6]


def test_nothing_is_done_to_a_good_file_or_a_missing_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert cut_to_step(path, 5) == [] and last_step(path) == 0 and read_json_lines(path) == []
    path.write_bytes(b"".join(LINES))
    before = path.stat()
    assert cut_to_step(path, 40) == [RECORDS[7]]
    assert path.stat() == before and len(os.listdir(tmp_path)) == 1


def test_any_bytes_overwritten_lose_no_other_line(tmp_path):
    """300 seeded overwrites of 1 to 40 bytes: lines that they do not touch are all still there."""
    rng, path, whole = np.random.default_rng(0), tmp_path / "metrics.jsonl", b"".join(LINES)
    starts = np.cumsum([0, *map(len, LINES)])
    for number in range(300):
        content, size = bytearray(whole), int(rng.integers(1, 41))
        at = int(rng.integers(0, len(content) - size))
        content[at : at + size] = rng.integers(0, 256, size, np.uint8).tobytes()
        path.write_bytes(bytes(content))
        touched = {n for n in range(8) if at < starts[n + 1] and at + size > starts[n]}
        untouched = [RECORDS[n]["step"] for n in range(8) if n not in touched]
        steps = [record["step"] for record in read_json_lines(path)]
        # One damaged newline joins two lines: the next is then lost with it.
        kept = [step for step in untouched if step - 5 not in {5 * n + 5 for n in touched}]
        assert set(kept) <= set(steps) and steps == sorted(steps), (at, size, content)
        if number % 20:
            continue  # cutting waits for the disk
        cut_to_step(path, 1000)
        assert [record["step"] for record in read_json_lines(path)] == steps
