"""A disk that cannot be written when a number is there: the number is printed, exit 6 comes after."""

import errno
import os
import re
import shutil

import pytest

from experiments.sessions import training
from vdm.errors import DiskError
from vdm.runs import folder as work_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def workdir(finished, tmp_path):
    """A finished run in whose place for evaluations a file lies: root can write anywhere else."""
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.move(tmp_path / "run" / "evaluations", tmp_path / "evaluations")
    (tmp_path / "run" / "evaluations").write_text("")
    return tmp_path / "run"


@pytest.mark.parametrize("bounds", ["elbo", "continuous:repeats=2,dense@4,elbo"])
def test_evaluate_prints_every_bound_before_it_fails(workdir, launch, bounds):
    done = launch("evaluate", workdir, f"--bound={bounds}", "--split=validation")
    assert done.returncode == 6, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {workdir}/evaluations")
    assert "Traceback" not in done.stderr and "written to" not in done.stdout
    names = [words.partition(":")[0] for words in bounds.split(",")] if "," in bounds else ["total"]
    for name in names:
        assert re.search(rf"^{name}.*\d\.\d{{4}}", done.stdout, re.MULTILINE), (name, done.stdout)


def test_train_prints_its_table_before_it_fails(make_parts, tmp_path, monkeypatch, capsys):
    """The disk is full from the final evaluation on."""
    real = work_folder.write_whole

    def write_whole(path, *args, **options):
        if path.parent.name == "evaluations":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, *args, **options)

    monkeypatch.setattr(work_folder, "write_whole", write_whole)
    with pytest.raises(DiskError, match="evaluations"):
        training.run(make_parts(num_steps=2), tmp_path)
    assert re.search(r"^total +\d+\.\d{4}", capsys.readouterr().out, re.MULTILINE)
