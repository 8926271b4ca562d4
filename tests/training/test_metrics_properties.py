"""metrics.jsonl: whatever lies between good records, all of these are read, in order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdm.training.writers import read_json_lines

RECORDS = st.builds(
    lambda step, loss: {"step": step, "loss": loss},
    st.integers(0, 10**7),
    st.floats(allow_nan=False, allow_infinity=False),
)
# None of these is a record: a line that a bit flip makes one could not be told from the true one.
DAMAGE = st.one_of(
    st.sampled_from([b"", b"123", b"null", b"[]", b"{}", b'"step"', b'{"step": "a"}', b"\0" * 50]),
    st.binary(max_size=60).map(lambda line: b"\xff" + line.replace(b"\n", b"")),
    RECORDS.map(lambda record: json.dumps(record).encode()[:-1]),
    RECORDS.map(lambda record: b'{"st' + json.dumps(record).encode()),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("metrics") / "metrics.jsonl"


@given(st.lists(st.one_of(RECORDS, DAMAGE), max_size=12), st.booleans())
def test_all_good_lines_are_read(path, lines, is_ended):
    # A run's steps rise; one beyond its successor's is the work of a flipped bit.
    steps = iter(sorted(line["step"] for line in lines if isinstance(line, dict)))
    lines = [{**x, "step": next(steps)} if isinstance(x, dict) else x for x in lines]
    content = b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines)
    path.write_bytes(content + (b"\n" if is_ended else b""))
    assert read_json_lines(path) == [line for line in lines if isinstance(line, dict)]
