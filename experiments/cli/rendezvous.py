"""A meeting of the processes before JAX connects them, which names those that do not come.

JAX ends a process with a core dump when another does not come, and names nobody. So the processes first
meet here: the first one listens where JAX's coordinator will, every other one sends its number and its
settings, and all get one answer: go on, or one line that says what is wrong. A message is one line of
JSON over TCP.
"""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError

_MAX_BYTES = 1 << 20
"""Longest message: a stranger could send without end."""

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
    """As the first process: return what is wrong, or "", once all that came were told it.

    Args:
      port: port to listen at.
      hello: number, count and settings of this process.
      deadline: `time.monotonic()` after which the missing are given up.
      timeout: seconds of the whole wait, for the message.
    """
    count, problem = hello["count"], ""
    guests: dict[int, socket.socket] = {}
    with _listener(port) as server:
        while len(guests) < count - 1 and not problem:
            # Never 0, which would make the socket non-blocking and raise another error.
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                guest, _ = server.accept()
            except TimeoutError:
                missing = [str(i) for i in range(1, count) if i not in guests]
                who = "process " if len(missing) == 1 else "processes "
                problem = (
                    f"--distributed: {who}{', '.join(missing)} of {count} did not join within "
                    f"{timeout:g} s; look at their output, or raise --join_timeout_seconds"
                )
                break

            words = _receive(guest, time.monotonic() + _HELLO_SECONDS)
            if words is None or "index" not in words:
                guest.close()  # a port scanner or a health check, not one of this run
                continue
            problem = _difference(hello, words, guests)
            # One that does not fit gets the answer too, but takes nobody's place.
            guests[words["index"] if not problem else -1] = guest

        for guest in guests.values():
            _send(guest, {"problem": problem})
            guest.close()
    return problem


def _listener(port: int) -> socket.socket:
    """A socket that listens at `port`; ConfigError where another program does."""
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


def _difference(hello: Mapping, words: Mapping, guests: Mapping) -> str:
    """What is wrong with a guest's `words` beside this process's `hello`; "" if they fit."""
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
    for name in sorted(set(ours) | set(theirs)):
        if ours.get(name) != theirs.get(name):
            return (
                f"{name}: process 0 has {ours.get(name)!r}, process {index} has "
                f"{theirs.get(name)!r}; start all processes with the same settings"
            )
    return ""


def _report(host: str, port: int, hello: dict, deadline: float, timeout: float) -> str:
    """As any other process: send `hello` to the first one until it answers; return its answer."""
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=5.0) as connection:
                _send(connection, hello)
                # The first one waits for the others as long as this one may, then names the missing.
                answer = _receive(connection, time.monotonic() + timeout + 5.0)
            if answer is not None and "problem" in answer:
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
    """One message, a JSON object; None where none came in time."""
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
    # Whatever connects to an open port may send anything.
    try:
        words = json.loads(content)
    except ValueError:
        return None
    return words if isinstance(words, dict) else None
