"""Who is there, and with what settings, before JAX connects the processes.

JAX ends a process with a core dump when another does not come, and names nobody. So the processes first
meet here: the first one listens where JAX's coordinator will, every other one tells its number and its
settings, and all get one answer: go on, or one line that says what is wrong.
"""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError

_MAX_BYTES = 1 << 20
_RETRY_SECONDS = 0.2
_HELLO_SECONDS = 5.0


def rendezvous(
    address: str, index: int, count: int, settings: Mapping[str, Any], timeout_seconds: float
) -> None:
    """Returns once all `count` processes are there with the same `settings`.

    Args:
      address: host:port of the first process.
      index: number of this process, 0 .. count - 1.
      count: number of processes.
      settings: JSON-able, by name; compared with those of the first process.
      timeout_seconds: how long to wait for the others.

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
    """What is wrong, or "", told to all that came."""
    count, problem = hello["count"], ""
    guests: dict[int, socket.socket] = {}
    with _listener(port) as server:
        while len(guests) < count - 1 and not problem:
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
                guest.close()  # not one of ours
                continue
            problem = _difference(hello, words, guests)
            guests[words["index"] if not problem else -1] = guest
        for guest in guests.values():
            _send(guest, {"problem": problem})
            guest.close()
    return problem


def _listener(port: int) -> socket.socket:
    try:
        # Every address of this machine, IPv6 and IPv4, as JAX's coordinator does.
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=False
        )
    except (OSError, ValueError):
        pass
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise ConfigError(
            f"--coordinator=…:{port}: cannot listen there ({error.strerror}); choose another port"
        ) from error


def _difference(hello: Mapping, words: Mapping, guests: Mapping) -> str:
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
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=5.0) as connection:
                _send(connection, hello)
                # The first one waits for the others as long as we may, and then says who is missing.
                answer = _receive(connection, time.monotonic() + timeout + 5.0)
            if answer is not None and "problem" in answer:
                return answer["problem"]
        except OSError as error:
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
        pass  # it is gone, and will be missed


def _receive(connection: socket.socket, deadline: float) -> dict | None:
    """One line of JSON, an object; None where none came in time."""
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
    try:
        words = json.loads(content)
    except ValueError:
        return None
    return words if isinstance(words, dict) else None
