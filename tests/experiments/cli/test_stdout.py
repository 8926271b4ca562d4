"""Output whose reader is gone or whose disk is full: the work goes on to its end."""

import os
import subprocess

import pytest

from experiments.cli import stdout

SMALL = {"denoiser.name": "mlp", "denoiser.mlp.width": 16, "train.num_samples": 0}


def make_pipe():
    reader, writer = os.pipe()
    return reader, writer


@pytest.mark.parametrize("make", [make_pipe, os.openpty], ids=["pipe", "terminal"])
def test_what_nobody_reads_is_dropped(make, capfd):
    reader, writer = make()
    with open(writer, "w", encoding="utf-8") as plain:
        tolerant = stdout.tolerant(plain)
        print("read", file=tolerant, flush=True)
        assert os.read(reader, 100).startswith(b"read")
        os.close(reader)
        with pytest.raises(OSError):
            os.write(writer, b"lost")
        for _ in range(2):
            print("lost", file=tolerant, flush=True)
        tolerant.detach()
    assert capfd.readouterr().err.count("nobody reads it any more") == 1


def test_what_a_full_disk_refuses_is_dropped(capfd):
    with open("/dev/full", "w", encoding="utf-8") as plain:
        tolerant = stdout.tolerant(plain)
        for _ in range(2):
            print("lost", file=tolerant, flush=True)
        tolerant.close()
    assert capfd.readouterr().err.count("WARNING") == 1


def test_a_file_that_may_not_grow_further_ends_nothing(run_python, tmp_path):
    """EFBIG, by the largest size of a file that `ulimit -f` sets."""
    code = f"""
import os, resource, sys
from experiments.cli import stdout
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
os.dup2(os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT), 1)
stdout.outlive_readers()
for _ in range(3):
    print("x" * 600, flush=True)
"""
    done = run_python(code, devices=1)
    assert done.stderr.count("WARNING: stdout") == 1
    assert (tmp_path / "log").stat().st_size == 1000


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_letters_that_the_terminal_lacks_are_shown_by_number(tmp_path, errors):
    with open(tmp_path / "log", "w", encoding="ascii", errors=errors) as plain:
        with stdout.tolerant(plain) as tolerant:
            print("runs/é-日本 \udce9", file=tolerant)
    assert (tmp_path / "log").read_text(encoding="ascii") == "runs/\\xe9-\\u65e5\\u672c \\udce9\n"


@pytest.mark.slow
def test_training_outlives_its_reader(train_command, tmp_path):
    """As `| head -3` closes it."""
    process = subprocess.Popen(
        **train_command(tmp_path, SMALL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(3):
        assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0, errors
    assert "nobody reads it any more" in errors and "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert len(list((tmp_path / "evaluations").glob("*.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_training_outlives_a_full_disk_under_its_log(train_command, tmp_path, full):
    """As `> log` on a disk that fills up, while the work folder has room."""
    other = "stderr" if full == "stdout" else "stdout"
    with open("/dev/full", "w", encoding="utf-8") as device:
        streams = {full: device, other: subprocess.PIPE}
        process = subprocess.run(
            **train_command(tmp_path, SMALL), **streams, text=True, timeout=240
        )
    output = getattr(process, other)
    assert process.returncode == 0, output
    # Nothing may have been written to stderr: a run without a warning leaves it empty.
    assert output.count(f"WARNING: {full}") == 1 or full == "stderr"
    assert "Traceback" not in output and len(list((tmp_path / "evaluations").glob("*.json"))) == 1


def test_unbuffered_output_stays_so(run_python):
    code = """
import os, sys
from experiments.cli import stdout
stdout.outlive_readers()
sys.stdout.write("text ")
os.write(1, b"bytes")
"""
    env = {"PYTHONUNBUFFERED": "1"}
    assert run_python(["-c", code], env=env, devices=1).stdout == "text bytes"
    assert run_python(["-c", code], env={"PYTHONUNBUFFERED": ""}).stdout == "bytestext "
