"""Every mistake on the command line: its exit code, and one line with argument, value and fix."""

import errno
import os
import subprocess
import sys

import pytest

from experiments.cli import launcher, parsing
from vdm.errors import CheckpointError, DataError, Preempted

LAUNCHER = '''"""Count to a number, for tests.

    python -m experiments.dummy --config=FILE
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file("config")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run writes.")
_NUM = flags.DEFINE_integer("num", 4, "How many.", lower_bound=1)
_BOUND = flags.DEFINE_enum("bound", "elbo", ["elbo", "ode"], "Which bound.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Build only.")
_FAIL = flags.DEFINE_string("fail", "", "An exception to raise.")


def main():
    import logging, os

    logging.getLogger("vdm").info("progress")
    logging.getLogger("absl").info("chatter")
    if _FAIL.value:
        raise eval(_FAIL.value)
    train = _CONFIG.value.train
    print(train.steps, train.rate, train.channels, train.flag, train.limit, train.name)
    print(_NUM.value, os.environ.get("JAX_DEBUG_NANS"))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
'''

CONFIG = """
from ml_collections import config_dict

def get_config():
    train = dict(steps=5, rate=1e-3, flag=True, channels=(1, 2), none=None, name="x")
    train["limit"] = config_dict.placeholder(int)
    return config_dict.ConfigDict({"train": train, "seed": 0})
"""

GOOD = "--config=configs/good.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("launcher")
    (root / "dummy.py").write_text(LAUNCHER)
    (root / "configs").mkdir()
    (root / "configs" / "good.py").write_text(CONFIG)
    (root / "configs" / "raises.py").write_text("def get_config():\n    return 1 / 0\n")
    (root / "configs" / "syntax.py").write_text("def get_config(:\n")
    (root / "configs" / "kind.py").write_text("def get_config():\n    return {'a': 1}\n")
    return root


@pytest.fixture
def dummy(folder, repository):
    """Runs the dummy launcher with the given words."""

    def run(*words, cwd=folder):
        command = [sys.executable, str(folder / "dummy.py"), *words]
        env = os.environ | {"PYTHONPATH": str(repository)}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)

    return run


def error_of(done, code):
    """The one line on stderr."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if "INFO progress" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


USAGE_MISTAKES = {
    "no config": ([], ["--config=:", "configs/good.py", "configs/raises.py"]),
    "config without a value": (["--config"], ["--config=:", "configs/good.py"]),
    "config is not a file": (["--config=configs/god.py"], ["configs/god.py", "configs/good.py?"]),
    "config is a folder": (["--config=configs"], ["--config=configs: no such Python file"]),
    "config raises": (["--config=configs/raises.py"], ["ZeroDivisionError", "raises.py:2"]),
    "config is no Python": (["--config=configs/syntax.py"], ["SyntaxError", "syntax.py"]),
    "config of another kind": (["--config=configs/kind.py"], ["gave dict", "ConfigDict"]),
    "config twice": ([GOOD, GOOD], ["2 times", "keep one"]),
    "variant of a file without": ([GOOD + ":small"], ["good.py:small", f"write {GOOD}"]),
    "override alone": (["--config.seed=1"], ["--config.seed=1", "configs/good.py"]),
    "override first": (["--config.seed=1", GOOD], ["--config.seed=1", f"put {GOOD} before"]),
    "unknown field": (
        [GOOD, "--config.train.stpes=5"],
        ["--config.train.stpes=5: no such field", "--config.train.steps"],
    ),
    "field of another group": ([GOOD, "--config.steps=5"], ["--config.train.steps"]),
    "unlike any field": ([GOOD, "--config.zzz=5"], ["--config.zzz=5", "groups are seed, train"]),
    "field within a field": ([GOOD, "--config.seed.x=5"], ["--config.seed.x=5", "no such field"]),
    "group": ([GOOD, "--config.train=5"], ["--config.train=5", "--config.train.channels"]),
    "field without a type": (
        [GOOD, "--config.train.none=5"],
        ["--config.train.none=5", "NoneType"],
    ),
    "int": ([GOOD, "--config.train.steps=1.5"], ["--config.train.steps=1.5: expected an integer"]),
    "float": ([GOOD, "--config.train.rate=fast"], ["--config.train.rate=fast: expected a number"]),
    "bool": ([GOOD, "--config.train.flag=maybe"], ["flag=maybe: expected true or false"]),
    "tuple": (
        [GOOD, "--config.train.channels=1,b2"],
        ["--config.train.channels=1,b2", "channels"],
    ),
    "element": ([GOOD, "--config.train.channels=1.5"], ["=1.5: expected a tuple of int", "1,2"]),
    "no value": ([GOOD, "--config.train.steps"], ["--config.train.steps=", "VALUE"]),
    "unknown flag": ([GOOD, "--workdri=a"], ["--workdri=a: no such flag", "--workdir?"]),
    "unlike any flag": ([GOOD, "--zzz=a"], ["--zzz=a: no such flag", "--num", "--debug"]),
    "flag of a wrong type": ([GOOD, "--num=many"], ["--num=many: expected an integer"]),
    "flag out of range": ([GOOD, "--num=0"], ["--num=0", "positive integer"]),
    "flag of choices": ([GOOD, "--bound=iwae"], ["--bound=iwae: choose one of elbo, ode"]),
    "switch": ([GOOD, "--dry_run=maybe"], ["--dry_run=maybe: expected true or false"]),
    "verbosity": ([GOOD, "--verbosity=loud"], ["--verbosity=loud: expected an integer"]),
    "stray word": ([GOOD, "now"], ["argument=now", "--flag=value"]),
    "stray config": (["configs/good.py", GOOD], ["did you mean --config=configs/good.py?"]),
    "stray word after dashes": ([GOOD, "--", "--num=3"], ["argument=--num=3"]),
}


@pytest.mark.parametrize("words, parts", USAGE_MISTAKES.values(), ids=USAGE_MISTAKES.keys())
def test_mistake_is_one_line_and_exit_code_2(dummy, words, parts):
    line = error_of(dummy(*words), 2)
    for part in parts:
        assert part in line


def test_other_folder_names_the_repository_root(dummy, tmp_path, repository):
    line = error_of(dummy(GOOD, cwd=tmp_path), 2)
    assert str(tmp_path) in line and f"cd {repository}" in line


@pytest.mark.parametrize("words", [["--help"], ["--workdri=a", "-h"], ["--helpfull"]])
def test_help_lists_own_flags_only(dummy, words):
    done = dummy(*words)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Count to a number")
    assert "--bound: Which bound. One of elbo, ode. (default: elbo)" in done.stdout
    assert "configs/good.py" in done.stdout and "--debug" in done.stdout
    assert "alsologtostderr" not in done.stdout


def test_overrides_reach_the_configuration(dummy):
    fields = {"rate": "1", "channels": "5,6,7", "limit": "3", "name": "a=b"}
    overrides = [f"--config.train.{name}={value}" for name, value in fields.items()]
    done = dummy(GOOD, *overrides, "--config.train.steps", "9", "--noconfig.train.flag", "--num=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["9 1.0 (5, 6, 7) False 3 a=b", "2 None"]
    assert "INFO progress" in done.stderr and "chatter" not in done.stderr


def test_verbosity_and_debug(dummy):
    assert dummy(GOOD, "--verbosity=-1").stderr == ""
    assert "chatter" in dummy(GOOD, "--verbosity=1").stderr
    assert dummy(GOOD, "--debug").stdout.split("\n")[1] == "4 true"


def test_traceback_only_with_debug(dummy):
    words = [GOOD, "--fail=KeyError('mean\\nstd')"]
    line = error_of(dummy(*words), 1)
    assert "KeyError" in line and "run again with --debug" in line
    debugged = dummy(*words, "--debug")
    assert debugged.returncode == 1 and "Traceback" in debugged.stderr


def test_failure_inside_main_is_one_line(dummy):
    line = error_of(dummy(GOOD, "--fail=MemoryError()"), 2)
    assert "config.train.batch_size" in line


class JaxRuntimeError(RuntimeError):
    """As JAX names the errors of XLA."""


CAUSED = RuntimeError("save failed")
CAUSED.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")

FAILURES = [
    (DataError("images.npy: bad"), 3, "images.npy: bad"),
    (FloatingPointError("nan in exp"), 4, "nan in exp"),
    (CheckpointError("none"), 5, "none"),
    (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 6, "runs/a"),
    (CAUSED, 6, "free some space"),
    (ValueError("RESOURCE_EXHAUSTED: write: No space left on device"), 6, "free some space"),
    (Preempted("saved at step 3"), 75, "saved at step 3"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB\nmore"), 2, "config.train.batch_size"),
    (FileNotFoundError(errno.ENOENT, "No such file", "a.npz"), 1, "--debug"),
]


@pytest.mark.parametrize("error, code, part", FAILURES, ids=lambda value: type(value).__name__)
def test_exit_code_of_each_failure(error, code, part):
    message, got = launcher.describe(error)
    assert got == code and part in message


def test_exit_code_that_main_returns(monkeypatch, tmp_path):
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        launcher.run(lambda: 75, doc="", argv=["program"])
    assert ended.value.code == 75


NAMED = {
    "step=7: /runs/seed=1-num=2 has no such step": "--step=7: /runs/seed=1-num=2 has no such step",
    "lost; choose another workdir": "lost; choose another --workdir",
    "seed 0 -> 1, or allow_change=seed": "seed 0 -> 1, or --allow_change=seed",
    "--step=best: is a flag": "--step=best: is a flag",
    "config.train.seed=-1: a field": "config.train.seed=-1: a field",
    "num_levels=3: no flag": "num_levels=3: no flag",
}


@pytest.mark.parametrize("message", NAMED)
def test_arguments_that_are_flags_are_shown_as_flags(message):
    own = ["workdir", "step", "seed", "num", "allow_change"]
    assert parsing.name_flags(message, own) == NAMED[message]
