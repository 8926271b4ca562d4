"""Output whose reader is gone: the work goes on to its end."""

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
    assert capfd.readouterr().err.count("nobody reads the output any more") == 1


def test_a_full_disk_is_still_an_error():
    with open("/dev/full", "w", encoding="utf-8") as plain:
        tolerant = stdout.tolerant(plain)
        with pytest.raises(OSError, match="No space"):
            print("lost", file=tolerant, flush=True)
        with pytest.raises(OSError, match="No space"):
            tolerant.close()


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
    assert "nobody reads the output any more" in errors and "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert len(list((tmp_path / "evaluations").glob("*.json"))) == 1


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
