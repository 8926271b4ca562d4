"""Processes meet before JAX connects them: who is missing, comes twice, or has other settings."""

import concurrent.futures
import json
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli.rendezvous import rendezvous
from vdm.errors import ConfigError

SETTINGS = {"--config.seed": "0", "jax": "0.10.2"}


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def call(port, processes, timeout=10.0, count=None):
    """Let `processes` {index: settings} meet; return the error of each, None without one."""
    count = len(processes) if count is None else count

    def one(index):
        try:
            rendezvous(f"127.0.0.1:{port}", index, count, processes[index], timeout)
        except ConfigError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return dict(zip(processes, pool.map(one, processes), strict=True))


def test_all_there_with_the_same_settings(port):
    assert set(call(port, dict.fromkeys((2, 1, 0), SETTINGS)).values()) == {None}


def test_one_process_needs_nobody():
    rendezvous("nowhere", 0, 1, SETTINGS, 0.1)


@pytest.mark.parametrize(
    ("present", "missing"),
    [((0, 2), "process 1 of 3"), ((0,), "processes 1, 2 of 3"), ((1, 2), "process 0 of 3")],
)
def test_the_missing_are_named_in_every_process(port, present, missing):
    started = time.monotonic()
    found = call(port, dict.fromkeys(present, SETTINGS), timeout=1.0, count=3)
    assert time.monotonic() - started < 8.0
    for message in found.values():
        assert f"--distributed: {missing} did not" in message and "within 1 s" in message


def test_other_settings_are_named_with_both_values(port):
    found = call(port, {0: SETTINGS, 1: {**SETTINGS, "--config.seed": "7"}})
    message = "--config.seed: process 0 has '0', process 1 has '7'"
    assert all(error.startswith(message) for error in found.values())


def test_the_same_number_twice(port):
    def one(index):
        try:
            rendezvous(f"127.0.0.1:{port}", index, 3, SETTINGS, 5.0)
        except ConfigError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = list(pool.map(one, (0, 1, 1)))
    assert "--process_id=1: comes twice" in found[0]


def test_a_stranger_does_not_disturb(port):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(rendezvous, f"127.0.0.1:{port}", 0, 2, SETTINGS, 10.0)
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        rendezvous(f"127.0.0.1:{port}", 1, 2, SETTINGS, 10.0)
        assert first.result() is None


# What json.loads accepts, at every place of a hello; such as true, which Python takes for 1.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = dict.fromkeys(("index", "count", "settings"), VALUES)
NOT_INTEGERS = VALUES.filter(lambda value: type(value) is not int)
MALFORMED = st.one_of(
    st.binary(max_size=60),
    VALUES.filter(lambda value: not isinstance(value, dict)),
    st.fixed_dictionaries({}, optional={n: v for n, v in FIELDS.items() if n != "count"}),
    st.fixed_dictionaries({**FIELDS, "index": NOT_INTEGERS}),
    st.fixed_dictionaries({**FIELDS, "count": NOT_INTEGERS}),
    st.fixed_dictionaries({**FIELDS, "settings": st.integers() | st.lists(st.text(max_size=3))}),
)
HOSTILE = [
    {"index": 1},
    {"index": [1], "count": 2, "settings": {}},
    {"index": True, "count": 2, "settings": {}},
    {"index": 1, "count": 2, "settings": 3},
    b"[" * 300_000,  # deeper than the parser goes
    b"1" * 10_000,  # more digits than Python reads
    b"\xff\xfe\x00" * 100,
    b"x" * (3 << 20),  # longer than any message
]


def send_lines(port, lines):
    """Send each over a connection of its own, as a stranger: none of them waits for an answer."""
    for line in lines:
        content = line if isinstance(line, bytes) else json.dumps(line).encode()
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            try:
                stranger.sendall(content + b"\n")
            except OSError:
                pass  # it was sent away before it had said all


def survives(lines):
    """Return whether process 0 still takes process 1 after all these lines, without a message."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(rendezvous, f"127.0.0.1:{port}", 0, 2, SETTINGS, 20.0)
        while not first.done():
            try:
                send_lines(port, lines)
                break
            except ConnectionRefusedError:
                time.sleep(0.005)
        second = pool.submit(rendezvous, f"127.0.0.1:{port}", 1, 2, SETTINGS, 20.0)
        return first.result() is None and second.result() is None


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: repr(line)[:20])
def test_a_malformed_line_does_not_end_the_wait(line):
    assert survives([line])


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(lines=st.lists(MALFORMED, min_size=15, max_size=30))
def test_no_malformed_line_ends_the_wait(lines):
    assert survives(lines)


@pytest.mark.parametrize("address", ["node", "node:", ":9000", "node:x"])
def test_an_address_without_host_and_port(address):
    with pytest.raises(ConfigError, match="give HOST:PORT"):
        rendezvous(address, 1, 2, SETTINGS, 0.1)
