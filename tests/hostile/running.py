"""Launchers on hostile input, one forked process each: exit code, peak memory, files that changed."""

import dataclasses
import hashlib
import json
from pathlib import Path

MAX_BYTES = 10**9
"""Peak resident memory, Python and all libraries included."""

# Run by a forked process that has imported the library; each launcher is forked from it in turn.
_RUN_ALL = """
import json, os, resource, runpy, signal, sys, time
import PIL.Image, PIL.PngImagePlugin, PIL.TiffImagePlugin
import vdm.runs.prepare_data, vdm.runs.dataset, vdm.runs.run, experiments.cli.evaluation_flags

def run(words, folder):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT, 0o600), number)
    signal.alarm({seconds})
    # To save the machine, not the test: what comes near it has failed already.
    resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30,) * 2)
    os.environ.update(VDM_DATA_DIR=os.path.join(folder, "cache"), TMPDIR=os.path.join(folder, "tmp"))
    os.environ["HOME"] = os.path.join(folder, "home")
    sys.argv = ["experiments." + words[0], *words[1:]]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

outcomes = []
for words, folder in json.loads(sys.stdin_text):
    started, child = time.monotonic(), os.fork()
    if not child:
        try:
            run(words, folder)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(99)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    outcomes.append([code, usage.ru_maxrss * 1024, time.monotonic() - started])
print(json.dumps(outcomes))
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a launcher.

    Attributes:
      code: exit code; the negative signal that ended it.
      peak: resident memory, bytes.
      seconds: wall time.
      stderr: what it wrote there.
      changed: files beside its own folders that appeared, vanished or changed.
    """

    code: int
    peak: int
    seconds: float
    stderr: str
    changed: set[Path]


def run_all(fork_python, cases, root: Path, seconds: int = 60) -> dict[str, Outcome]:
    """Run {name: build} in folders below `root`, where build(folder) gives the launcher's words.

    A case may write into its cache/, which stands for the user's, its run/, and what the words name;
    everything else below `root` is compared before and after.
    """
    jobs = {}
    for number, (name, build) in enumerate(cases.items()):
        folder = root / f"{number:03d}"
        for below in ("cache", "tmp", "home", "input", "outside"):
            (folder / below).mkdir(parents=True)
        (folder / "outside" / "secret.png").write_bytes(b"mine")
        jobs[name] = (build(folder / "input"), str(folder))
    before = {name: _files(Path(folder)) for name, (_, folder) in jobs.items()}

    code = f"import sys\nsys.stdin_text = {json.dumps(list(jobs.values()))!r}\n"
    code += _RUN_ALL.replace("{seconds}", str(seconds))
    done = fork_python(code, devices=1, timeout=600)
    ends = json.loads(done.stdout.splitlines()[-1])
    outcomes = {}
    for (name, (_, folder)), end in zip(jobs.items(), ends, strict=True):
        stderr = (Path(folder) / "stderr").read_text(encoding="utf-8")
        changed = {path for path, _ in before[name] ^ _files(Path(folder))}
        outcomes[name] = Outcome(*end, stderr, changed)
    return outcomes


def _files(folder: Path) -> set[tuple[Path, str]]:
    """Return (path, content) of everything that a launcher has no business to change."""
    own = {folder / name for name in ("cache", "stdout", "stderr")} | {folder / "input" / "run"}
    return {
        (path.relative_to(folder), _content(path))
        for path in folder.rglob("*")
        if path not in own and not own & set(path.parents)
    }


def _content(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "no file"
    return hashlib.sha256(path.read_bytes()).hexdigest()
