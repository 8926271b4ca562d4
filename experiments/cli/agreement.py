"""Facts that all processes of one run must have in common besides their flags: code and work folder.

A process with other code computes other numbers, and one that sees other checkpoints (a disk that is
not mounted, a listing that is late, a relative path from another folder) waits for ever in an exchange
of arrays that the others never make. The facts are gathered before JAX is imported, and compared when
the processes meet.
"""

import hashlib
from pathlib import Path

import vdm

CODE = "code"
_WORKDIR = "--workdir"
_SOURCES = {
    "vdm": Path(vdm.__file__).resolve().parent,
    "experiments": Path(__file__).resolve().parents[1],
    "configs": Path("configs"),
}
"""Folders whose Python files decide what a launcher does; configs/ is that of the working folder."""

_HASH_LENGTH = 12


def gather(workdir: str | None) -> dict[str, str]:
    """Return {name: value} of the facts, as this process sees them.

    Args:
      workdir: the work folder; None where the launcher has none.
    """
    facts = {CODE: _hash_of_sources()}
    if workdir:
        folder = Path(workdir)
        facts[f"{_WORKDIR}={workdir}: config.json"] = _hash_of_file(folder / "config.json")
        facts[f"{_WORKDIR}={workdir}: newest checkpoint"] = str(max(_steps(folder), default="none"))
        facts[f"{_WORKDIR}={workdir}: checkpoints"] = str(_steps(folder))
    return facts


def fix(name: str) -> str:
    """Return what to do about a value that differs between processes, as the end of a message."""
    if name == CODE:
        return "start all processes from the same revision, without changes of their own"
    if name.startswith(f"{_WORKDIR}="):
        return "is the folder mounted on all, and the path the same from where each was started?"
    return "start all processes with the same settings"


def _steps(workdir: Path) -> list[int]:
    """Return the steps of the committed checkpoints, ascending."""
    folder = workdir / "checkpoints"
    try:
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    except OSError:
        return []  # none yet, or a folder that this process cannot read, which the others may


def _hash_of_file(path: Path) -> str:
    try:
        return f"SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:_HASH_LENGTH]}"
    except OSError as error:
        return "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"


def _hash_of_sources() -> str:
    """Return the SHA-256 of every Python file of _SOURCES with its name, shortened."""
    digest = hashlib.sha256()
    for name, root in _SOURCES.items():
        # Hidden ones are an editor's, and may be links to nowhere.
        for path in sorted(root.rglob("[!.]*.py")):
            content = path.read_bytes()
            # Name and length first: moving a line from one file to the next is a change too.
            digest.update(f"{name}/{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return f"SHA-256 {digest.hexdigest()[:_HASH_LENGTH]}"
