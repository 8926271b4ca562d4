"""Unusual environments: names beyond ASCII under other locales, and users without a home folder."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.experiments.conftest import train_words
from vdm.errors import ConfigError
from vdm.runs.folder import check_writable, require_identity
from vdm.runs.parts import use_compilation_cache

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The one environment in which Python 3.11 decodes names as ASCII."""
LOCALES = {
    "ASCII": ASCII,
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    "output in latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("locale", ["ASCII", "C"])
def test_names_are_utf_8_whatever_the_locale_says(run_python, locale):
    code = """
import os, sys
from experiments.cli.utf8 import use_utf8
use_utf8()
print(sys.getfilesystemencoding(), ascii(sys.argv[1:]))
"""
    done = run_python(["-c", code, "--workdir=é"], env=LOCALES[locale], devices=1, timeout=20)
    assert done.stdout.split() == ["utf-8", ascii(["--workdir=é"])]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "фото" / "ж"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(40):
        image = Image.fromarray(draw.integers(0, 256, (4, 4, 1), np.uint8).squeeze())
        image.save(folder / f"ß{number}.png")
    return folder.parent


def train_there(run_python, folder, images, env):
    fields = {"data.name": f"folder:{images}", "train.num_steps": 4, "evaluate.batch_size": 8}
    fields |= {"data.cache_dir": folder.parent / "кэш", "train.num_samples": 0}
    return run_python(train_words(folder, fields), env=env, devices=1, check=False)


@pytest.mark.slow
def test_training_on_names_beyond_ascii(run_python, images, tmp_path):
    """Orbax knows UTF-8 alone: in ASCII the run ended at its first save."""
    done = train_there(run_python, tmp_path / "é-日本", images, ASCII)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "é-日本" / "checkpoints" / "4").is_dir()


@pytest.mark.nightly
@pytest.mark.parametrize("locale", LOCALES)
def test_every_launcher_on_names_beyond_ascii(run_python, images, tmp_path, locale):
    env, run = LOCALES[locale], tmp_path / "é-日本"
    done = train_there(run_python, run, images, env)
    assert done.returncode == 0, done.stderr
    other = shutil.copytree(run, tmp_path / "ñ")
    launchers = [
        ["prepare_data", f"--dataset=folder:{images}", f"--data_dir={tmp_path / 'ö'}"],
        ["evaluate", f"--workdir={run}", "--timesteps=3"],
        ["sample", f"--workdir={run}", "--num=2", "--steps=2", "--batch_size=2"],
        ["compare", f"--workdirs={run},{other}", f"--out={tmp_path / 'ç'}", "--randomisations=2"],
    ]
    for name, *words in launchers:
        done = run_python(["-m", f"experiments.{name}", *words], env=env, devices=1, check=False)
        assert done.returncode == 0, (name, done.stderr)
    assert (tmp_path / "ç" / "index.html").is_file()
    record = next((run / "evaluations").glob("*-3x*.json"))
    assert json.loads(record.read_text(encoding="utf-8"))["data"]["name"] == "folder:фото"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    """Before the first step, which it would outlive, but not the first save."""
    folder = tmp_path / os.fsdecode(b"\xe9")
    for check in (check_writable, require_identity):
        with pytest.raises(ConfigError, match=r"workdir=.* is not UTF-8"):
            check(folder)


@pytest.fixture
def without_a_home(monkeypatch):
    """A user that the system does not know, as in a container with a random number."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_without_a_home_programs_are_compiled_anew(without_a_home, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    use_compilation_cache()


NOBODY = """
import os, pwd, runpy, sys

def unknown(number):
    raise KeyError(number)

pwd.getpwuid = unknown
for name in ("HOME", "JAX_COMPILATION_CACHE_DIR", "USER", "LOGNAME"):
    os.environ.pop(name, None)
sys.argv = {words!r}
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_data_dir", [True, False])
def test_training_without_a_home(fork_python, tmp_path, with_data_dir):
    """Prepared data need a folder, which the message asks for; nothing else does."""
    fields = {"train.num_steps": 2, "train.num_samples": 0}
    words = [str(word) for word in train_words(tmp_path / "run", fields)[1:]]
    env = {"VDM_DATA_DIR": str(tmp_path / "data") if with_data_dir else ""}
    done = fork_python(NOBODY.format(words=words), env=env, devices=1, check=False)
    assert done.returncode == (0 if with_data_dir else 2), done.stderr
    assert with_data_dir or "set VDM_DATA_DIR" in done.stderr.splitlines()[-1]
    assert (tmp_path / "run").exists() == with_data_dir
