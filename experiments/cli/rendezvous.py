"""A meeting of the processes before JAX connects them, which names those that do not come.

When a process does not join, JAX ends the others with a core dump that does not name the missing one.
The processes therefore first meet here: process 0 listens at the address of JAX's coordinator, every
other one sends its number and settings, and all receive one verdict, success or an error message. A
message is one line of JSON over TCP.
"""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from experiments.cli.agreement import fix
from vdm.errors import ConfigError

_MAX_BYTES = 1 << 20
"""Longest message in bytes: any program can connect to the port, and could send without end."""

_MAX_SHOWN = 400
"""Longest value in a message, in characters."""

_RETRY_SECONDS = 0.2
_HELLO_SECONDS = 5.0
"""Seconds that one guest may take for its message, while the others wait."""


def rendezvous(
    address: str, index: int, count: int, settings: Mapping[str, Any], timeout_seconds: float
) -> None:
    """Return once all `count` processes are there with the same `settings`.

    Args:
      address: host:port of the first process.
      index: number of this process, 0 .. count - 1.
      count: number of processes.
      settings: JSON-able values by name, compared with those of the first process.
      timeout_seconds: longest wait for the others.

    Raises:
      ConfigError: a process is missing, comes twice, or has other settings; in every process.
    """
    deadline = time.monotonic() + timeout_seconds
    if count == 1:
        return
    hello = {"index": index, "count": count, "settings": dict(settings)}
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--coordinator={address}: give HOST:PORT, such as node1:9000")
    if index == 0:
        problem = _listen(int(port), hello, deadline, timeout_seconds)
    else:
        problem = _report(host, int(port), hello, deadline, timeout_seconds)
    if problem:
        raise ConfigError(problem)


def _listen(port: int, hello: dict, deadline: float, timeout: float) -> str:
    """Wait, as process 0, for all others and send each the verdict; return it, "" for success.

    Args:
      port: port to listen at.
      hello: number, count and settings of this process.
      deadline: value of `time.monotonic()` at which the wait for missing processes ends.
      timeout: seconds of the whole wait, for the error message.
    """
    count, problem = hello["count"], ""
    guests: dict[int, socket.socket] = {}
    with _listener(port) as server:
        while len(guests) < count - 1 and not problem:
            guest = _accept(server, deadline)
            if guest is None:
                problem = _missing(guests, count, timeout)
                break
            words = _receive(guest, time.monotonic() + _HELLO_SECONDS)
            if words is None or not _is_hello(words):
                guest.close()  # a port scanner or a health check, not one of this run
                continue
            problem = _difference(hello, words, guests)
            # A refused process gets the answer too; under -1 it replaces no accepted one.
            guests[words["index"] if not problem else -1] = guest

        for guest in guests.values():
            _send(guest, {"problem": problem})
            guest.close()
    return problem


def _accept(server: socket.socket, deadline: float) -> socket.socket | None:
    """Return the next connection; None once the deadline is over, even if strangers keep coming."""
    while (seconds := deadline - time.monotonic()) > 0:
        server.settimeout(seconds)
        try:
            return server.accept()[0]
        except OSError:
            # A connection that was gone before it was accepted, or the time-out.
            continue
    return None


def _missing(guests: Mapping, count: int, timeout: float) -> str:
    """Return the error message that names the processes without a connection."""
    missing = [str(i) for i in range(1, count) if i not in guests]
    who = "process " if len(missing) == 1 else "processes "
    return (
        f"--distributed: {who}{', '.join(missing)} of {count} did not join within "
        f"{timeout:g} s; look at their output, or raise --join_timeout_seconds"
    )


def _listener(port: int) -> socket.socket:
    """Return a socket that listens at `port`; ConfigError where another program does."""
    try:
        # Every address of this machine, IPv6 and IPv4, as JAX's coordinator does.
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=False
        )
    except (OSError, ValueError):
        pass  # a machine without IPv6
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise ConfigError(
            f"--coordinator=…:{port}: cannot listen there ({error.strerror}); choose another port"
        ) from error


def _is_hello(words: Mapping) -> bool:
    """Return whether a message has the form of a process's hello; whatever it says may be wrong."""
    # Compared exactly, because JSON's true would pass for the process 1.
    return (
        type(words.get("index")) is int
        and type(words.get("count")) is int
        and type(words.get("settings")) is dict
    )


def _difference(hello: Mapping, words: Mapping, guests: Mapping) -> str:
    """Return the error message for a process whose settings do not match; "" where they do.

    Args:
      hello: index, count and settings of process 0.
      words: the same of the connecting process.
      guests: connections accepted so far, by process index.
    """
    index, count = words["index"], hello["count"]
    if words["count"] != count:
        return (
            f"--num_processes: process {index} says {words['count']}, process 0 says {count}; "
            "start all with the same number"
        )
    if index in guests or not 0 < index < count:
        return (
            f"--process_id={index}: comes twice or is outside 0..{count - 1}; number them uniquely"
        )
    ours, theirs = hello["settings"], words["settings"]
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if ours.get(name) != theirs.get(name):
            return (
                f"{name}: process 0 has {_show(ours.get(name))}, process {index} has "
                f"{_show(theirs.get(name))}; {fix(name)}"
            )
    return ""


def _show(value: Any) -> str:
    """Return a value as text that fits into a line, whatever a stranger may have sent."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _report(host: str, port: int, hello: dict, deadline: float, timeout: float) -> str:
    """Send `hello` to process 0 until it answers or time runs out; return its verdict, "" for success.

    Args:
      host, port: address of process 0.
      hello: index, count and settings of this process.
      deadline: value of `time.monotonic()` after which no further attempt is made.
      timeout: seconds that process 0 waits for all others.
    """
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=5.0) as connection:
                _send(connection, hello)
                # The first one waits for the others as long as this one may, then names the missing.
                answer = _receive(connection, time.monotonic() + timeout + 5.0)
            if answer is not None and isinstance(answer.get("problem"), str):
                return answer["problem"]
        except OSError as error:
            # It may not listen yet, or its name may not be known yet: tried again until the deadline.
            reason = error.strerror or str(error) or reason
        time.sleep(_RETRY_SECONDS)
    return (
        f"--distributed: process 0 of {hello['count']} did not answer at {host}:{port} within "
        f"{timeout:g} s ({reason}); look at its output, or raise --join_timeout_seconds"
    )


def _send(connection: socket.socket, words: Mapping) -> None:
    try:
        connection.sendall(json.dumps(words).encode() + b"\n")
    except OSError:
        pass  # its process has ended, and the others will name it


def _receive(connection: socket.socket, deadline: float) -> dict | None:
    """Return one message, a JSON object; None where none came in time or it is no JSON object."""
    content = b""
    while not content.endswith(b"\n") and len(content) < _MAX_BYTES:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            block = connection.recv(1 << 16)
        except OSError:
            return None
        if not block:
            return None
        content += block
    # Whatever connects to an open port may send anything, such as a million opening brackets.
    try:
        words = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, dict) else None
