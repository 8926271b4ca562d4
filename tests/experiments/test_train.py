"""Training from the command line: its files, its table, resuming, and every refusal."""

import json
import shutil

import numpy as np
import pytest

from tests.experiments.conftest import repeatable
from vdm.training.writers import read_json_lines

TERMS = ("reconstruction", "prior_matching", "denoising_matching", "auxiliary")


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


def error(done, code):
    assert done.returncode == code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


def losses(workdir):
    """{(step, name): value} of all that does not depend on the clock."""
    lines = read_json_lines(workdir / "metrics.jsonl")
    pairs = [(line.pop("step"), line) for line in lines]
    return {(step, n): v for step, line in pairs for n, v in repeatable(line).items()}


def test_a_run_leaves_its_files_and_prints_its_table(finished):
    workdir, done = finished
    found = json.loads((workdir / "config.json").read_text())
    assert found["config"]["train"]["num_steps"] == 12
    assert found["data"]["split_sizes"] == {"train": 1400, "validation": 100, "test": 297}
    assert {step for step, _ in losses(workdir)} == {4, 6, 8, 12}
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["12", "6", "9"]
    for part in ("config.seed = 0", "versions: ", "left", "images/s", "validation", *TERMS, "297"):
        assert part in done.stdout, part


def test_the_table_is_what_the_arrays_hold(finished):
    workdir, done = finished
    (path,) = (workdir / "evaluations").glob("*.json")
    facts = json.loads(path.read_text())
    arrays = np.load(path.with_suffix(".npz"))
    assert sorted(arrays["index"]) == list(range(297))
    total = sum(arrays[name] for name in TERMS) / (64 * np.log(2.0))
    row = facts["bits_per_dim"]["total"]
    assert abs(total.mean() - row["mean"]) < 1e-9
    monte_carlo = np.sqrt(total.mean(1).var(ddof=1) / len(total))
    assert abs(monte_carlo - row["monte_carlo_error"]) < 1e-9
    # The scatter of per-image means takes the errors of evenly spread times for independent.
    widest = np.hypot(total.mean(0).std(ddof=1) / np.sqrt(297), monte_carlo)
    assert monte_carlo * (1 - 1e-9) <= row["standard_error"] <= widest * (1 + 1e-9)
    assert f"{row['mean']:.4f}" in done.stdout
    expected = {"timesteps_train": 0, "timesteps_eval": 0, "num_images": 297, "checkpoint_step": 12}
    assert expected.items() <= facts.items()
    assert facts["dtype"] == "float32" and facts["provenance"]["matmul_precision"]


def test_a_finished_run_prints_its_table_again(finished, launch):
    workdir, done = finished
    again = launch("train", workdir)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split("term ")[1] == done.stdout.split("term ")[1]


def test_stopped_and_resumed_equals_never_stopped(finished, launch, tmp_path):
    """One more run of the same length, cut back to its checkpoint at step 6 with a torn log."""
    workdir, _ = finished
    resumed = tmp_path / "resumed"
    shutil.copytree(workdir, resumed)
    for step in ("9", "12"):
        shutil.rmtree(resumed / "checkpoints" / step)
    shutil.rmtree(resumed / "evaluations")
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "loss": 0.')
    done = launch("train", resumed)
    assert done.returncode == 0 and "resuming" in done.stdout and "at step 6" in done.stdout
    assert losses(resumed) == losses(workdir)
    hashes = [
        json.loads((w / "checkpoints" / "12" / "record" / "metadata").read_text())["content"]
        for w in (workdir, resumed)
    ]
    assert hashes[0]["arrays"] == hashes[1]["arrays"]


REFUSALS = {
    "schedule": ({"schedule.name": "linear"}, 2, ["schedule.name 'learned_linear' -> 'linear'"]),
    "network": ({"denoiser.unet.channels": 16}, 2, ["denoiser.unet.channels 8 -> 16"]),
    "two fields": ({"seed": 1, "train.num_steps": 13}, 2, ["seed 0 -> 1", "num_steps 12 -> 13"]),
    "changeable": ({"train.num_steps": 13}, 2, ["--allow_change=train.num_steps"]),
    "batches": ({"train.batch_size": 32}, 2, ["train.batch_size 16 -> 32; choose another"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_another_run_in_the_folder_is_refused(finished, launch, case):
    workdir, _ = finished
    overrides, code, parts = REFUSALS[case]
    before = files(workdir)
    line = error(launch("train", workdir, overrides=overrides), code)
    assert all(part in line for part in parts), line
    assert f"--workdir={workdir}" in line
    assert files(workdir) == before


def test_a_change_that_is_allowed_is_recorded(finished, launch, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(finished[0], longer)
    overrides = {"train.num_steps": 14}
    done = launch("train", longer, "--allow_change=train.num_steps", overrides=overrides)
    assert done.returncode == 0, done.stderr
    changes = json.loads((longer / "config.json").read_text())["changes"]
    assert changes == [{"train.num_steps": [12, 14]}]
    assert (longer / "checkpoints" / "14").is_dir()


NOT_CHANGEABLE = {
    "schedule.name": "only train.*, evaluate.*, optimizer.*",
    "train.batch_size": "it decides which images a step sees",
}


@pytest.mark.parametrize("field", NOT_CHANGEABLE)
def test_allow_change_takes_no_other_model_and_no_other_batches(finished, launch, field):
    line = error(launch("train", finished[0], f"--allow_change={field}"), 2)
    assert f"--allow_change={field}: {NOT_CHANGEABLE[field]}" in line


MISTAKES = {
    "schedule": ({"schedule.name": "liner"}, 2, ["schedule.name='liner'", "learned_linear"]),
    "denoiser": ({"denoiser.name": "net"}, 2, ["denoiser.name='net'", "mlp, unet"]),
    "data set": ({"data.name": "cifar"}, 2, ["data.name='cifar'", "cifar10, cifar100"]),
    "no file": ({"data.name": "arrays", "data.arrays.path": "no.npz"}, 3, ["no.npz", "no such"]),
    "no path": ({"data.name": "arrays"}, 2, ["data.arrays.path=''"]),
    "groups": (
        {"denoiser.name": "unet", "denoiser.unet.num_groups": 8},
        2,
        ["num_groups=8", "channels=8"],
    ),
    "end points": ({"schedule.gamma_1": "-9.0"}, 2, ["schedule.gamma_1=-9.0", "above"]),
    "batch": ({"train.batch_size": 0}, 2, ["train.batch_size=0"]),
    "writer": ({"train.writers": "csv"}, 2, ["'csv'", "json_lines"]),
    "parameterisation": ({"model.parameterisation": "y"}, 2, ["parameterisation='y'", "score"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(launch, tmp_path, case):
    overrides, code, parts = MISTAKES[case]
    line = error(launch("train", tmp_path / "run", overrides=overrides), code)
    assert all(part in line for part in parts), line
    assert files(tmp_path) == []


def test_a_batch_that_devices_cannot_share(launch, tmp_path):
    done = launch("train", tmp_path / "run", devices=3)
    assert "train.batch_size=16: 3 devices" in error(done, 2) and files(tmp_path) == []


def test_a_folder_that_cannot_be_written(launch, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = error(launch("train", tmp_path / "file" / "run"), 2)
    assert f"--workdir={tmp_path / 'file' / 'run'}" in line
    assert files(tmp_path) == ["file"]


def test_dry_run_writes_nothing(launch, tmp_path):
    done = launch("train", tmp_path / "run", "--dry_run")
    assert done.returncode == 0, done.stderr
    for part in ("shape (8, 8, 1)", "17 levels", "parameters of the denoiser", "MiB", "one step"):
        assert part in done.stdout
    assert files(tmp_path) == []


@pytest.mark.slow
def test_dry_run_refuses_what_training_would_meet_at_its_end(launch, tmp_path):
    """The final evaluation of a split that the data do not have."""
    done = launch("train", tmp_path / "run", "--dry_run", overrides={"evaluate.split": "dev"})
    assert "config.evaluate.split='dev'" in error(done, 2)
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_misspelt_field_of_a_configuration_file(fork_python, tmp_path):
    """ConfigDict takes any name: the run would train with the default of the field that was meant."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import base\n\n"
        "def get_config():\n"
        "    config = base.get_config()\n"
        "    config.train.num_step = 5\n"
        "    return config\n"
    )
    words = ["-m", "experiments.train", f"--config={path}", "--dry_run"]
    done = fork_python(words, devices=1, check=False)
    assert "config.train.num_step=5: no such field; did you mean" in error(done, 2)


def test_arrays_train_without_tensorflow(fork_python, tmp_path):
    images = np.random.default_rng(0).integers(0, 4, (60, 3, 5, 2), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    code = f"""
import sys
sys.argv = ["train", "--config=configs/arrays.py", "--workdir={tmp_path}/run",
    "--config.data.arrays.path={tmp_path}/images.npy", "--config.data.arrays.num_levels=4",
    "--config.data.cache_dir={tmp_path}/cache", "--config.denoiser.name=mlp",
    "--config.train.num_steps=2", "--config.train.batch_size=8"]
import runpy
try:
    runpy.run_module("experiments.train", run_name="__main__")
except SystemExit as done:
    assert not done.code, done.code
print([m for m in ("tensorflow", "tensorflow_datasets", "diffrax") if m in sys.modules])
"""
    done = fork_python(code, devices=1)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
    assert "3 images of arrays/test" in done.stdout
