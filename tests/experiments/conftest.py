"""Launchers in processes of their own, on a shrunken digits configuration."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from experiments.cli import parsing
from tests.forking import Forked
from vdm.runs.parts import build

# An MLP: tracing the UNet in every process would take half of these tests' time.
SHRUNK = {
    "denoiser.name": "mlp",
    "denoiser.mlp.width": 8,
    "denoiser.mlp.num_blocks": 1,
    "denoiser.unet.channels": 8,
    "denoiser.unet.num_blocks": 1,
    "train.num_steps": 12,
    "train.batch_size": 16,
    "train.log_every_steps": 4,
    "train.evaluate_every_steps": 6,
    "train.save_every_steps": 3,
    "evaluate.batch_size": 104,
    "evaluate.randomisations": 2,
    "evaluate.repeats": 1,
    "train.num_samples": 4,
    "train.num_sample_steps": 3,
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Folder for prepared data, in place of the user's own cache."""
    return tmp_path_factory.mktemp("data")


def repeatable(line):
    """Return the metrics of a line of metrics.jsonl that no clock changes."""
    return {n: value for n, value in line.items() if "second" not in n and n != "goodput"}


def train_words(workdir, overrides=None):
    """The interpreter's arguments for a shrunken training run."""
    fields = {**SHRUNK, **(overrides or {})}
    words = ["-m", "experiments.train", f"--workdir={workdir}", "--config=configs/digits.py"]
    return words + [f"--config.{field}={value}" for field, value in fields.items()]


@pytest.fixture(scope="session")
def launch(fork_python, data_dir):
    """`launch("train", workdir, "--flag=…", overrides={field: value})` -> the finished process."""

    def run(name, workdir, *flags, devices=1, overrides=None, timeout=240.0):
        words = ["-m", f"experiments.{name}", f"--workdir={workdir}"]
        words = train_words(workdir, overrides) if name == "train" else words
        env = {"VDM_DATA_DIR": str(data_dir)}
        return fork_python([*words, *flags], devices=devices, timeout=timeout, env=env, check=False)

    return run


@pytest.fixture(scope="session")
def train_command(data_dir, repository):
    """`train_command(workdir, overrides)` -> what starts a training run in a new interpreter."""
    env = {**os.environ, "VDM_DATA_DIR": str(data_dir), "PYTHONPATH": str(repository)}

    def command(workdir, overrides=None):
        words = [sys.executable, *train_words(workdir, overrides)]
        return {"args": words, "cwd": repository, "env": env}

    return command


@pytest.fixture
def start_training(train_command):
    """`start_training(workdir, overrides)` -> a running process, killed when the test ends."""
    started = []

    def start(workdir, overrides=None):
        command = train_command(workdir, overrides)
        process = Forked(command["args"][1:], command["env"], command["cwd"], merged=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def start_pair_once(train_command):
    """`start_pair` for fixtures that live as long as a file's tests."""
    yield from _pairs(train_command)


@pytest.fixture
def start_pair(train_command):
    """`start_pair(workdir, ...)` -> [process 0, process 1] of one run over loopback; killed at the end.

    Keywords: `overrides`; `cwds`, a folder for each; `flags`; `words`, instead of those of `train`; and
    `env`, more environment variables.
    """
    yield from _pairs(train_command)


def _pairs(train_command):
    started = []

    def start(workdir, overrides=None, cwds=None, flags=(), words=None, env=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = train_command(workdir, overrides)
        devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
        env = {**command["env"], "XLA_FLAGS": devices, **(env or {})}
        place = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--num_processes=2", *flags]
        words = [*(words or command["args"][1:]), *place]
        for index, cwd in enumerate(cwds or [command["cwd"]] * 2):
            started.append(Forked([*words, f"--process_id={index}"], env, cwd))
        return started[-2:]

    yield start
    for process in started:
        process.kill()


def ends(processes, timeout):
    """[(exit code, stderr)] of processes that must all end in time, counted from now."""
    deadline, outcomes = time.monotonic() + timeout, []
    for process in processes:
        try:
            _, errors = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            stderr = [other.read("stderr") for other in processes]
            pytest.fail(f"{process.args[-1]} did not end in {timeout} s: {stderr}")
        outcomes.append((process.returncode, errors))
    return outcomes


@pytest.fixture(scope="session")
def finished(launch, tmp_path_factory):
    """(work folder, process) of a run that ended by itself; not to be changed."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    done = launch("train", workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


@pytest.fixture(scope="session")
def make_parts(data_dir):
    """`make_parts(data={...}, field=value)` -> parts of a tiny run; fields of "train"."""

    def make(data=None, **train):
        config = parsing.load_config("configs/digits.py").to_dict()
        config["data"] |= data or {}
        config["denoiser"] |= {"name": "mlp"}
        config["denoiser"]["mlp"] |= {"width": 8, "num_blocks": 1}
        # 7 is no multiple of the periods: at the end all is due only as it is the end.
        config["train"] |= {"num_steps": 7, "batch_size": 8, "log_every_steps": 1}
        config["train"] |= {"evaluate_every_steps": 4, "sample_every_steps": 4, "num_samples": 4}
        config["train"] |= {"num_sample_steps": 2, "save_every_steps": 0, "keep_latest": 10}
        config["train"] |= {"writers": ("json_lines",)} | train
        config["evaluate"] |= {"batch_size": 8, "randomisations": 2, "repeats": 1}
        return build(config, data_dir)

    return make


_PROBE = """<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message)));
addEventListener('load', () => {
  const found = {
    errors,
    images: document.images.length,
    missing: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt),
    overflow: document.documentElement.scrollWidth - innerWidth,
    clipped: [...document.querySelectorAll('h1, h2, p, li, img, table')].filter(
      e => e.getBoundingClientRect().left < 0 || !e.getBoundingClientRect().height).map(
      e => e.outerHTML.slice(0, 80)),
  };
  const report = document.createElement('pre');
  report.id = 'probe';
  report.textContent = JSON.stringify(found);
  document.body.append(report);
});
</script>"""


@pytest.fixture
def in_browser(tmp_path):
    """`in_browser(page)`: layout, images and console of a page in Chromium; skipped without one."""

    def check(page):
        browser = shutil.which("chromium") or shutil.which("chromium-browser")
        if not browser:
            pytest.skip("the page was written, but no Chromium is here to open it")
        copy = tmp_path / "probe.html"
        copy.write_text(page.read_text().replace("</head>", _PROBE + "</head>"))
        for width in (1200, 420):
            found = _probe(browser, copy, width, tmp_path)
            assert found["images"] and not found["missing"] and not found["errors"], found
            assert found["overflow"] <= 0 and not found["clipped"], found

    return check


def _probe(browser, page, width, profile):
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={profile / 'chromium'}", f"--window-size={width},900"]
    words += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    report = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert report, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(report[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
