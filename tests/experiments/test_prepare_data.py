"""Preparing from the command line, and runs that prepare by themselves."""

import importlib.util
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.cli.parsing import load_config
from vdm.data.cache import catalogue
from vdm.runs.folder import data_identity, read_identity, write_json
from vdm.runs.parts import build, build_trained

SHRUNK = {
    "denoiser.name": "mlp",
    "denoiser.mlp.width": 8,
    "denoiser.mlp.num_blocks": 1,
    "train.num_steps": 4,
    "train.batch_size": 8,
    "train.log_every_steps": 2,
    "train.evaluate_every_steps": 4,
    "train.save_every_steps": 2,
    "train.num_samples": 0,
    "evaluate.randomisations": 2,
    "evaluate.batch_size": 20,
}
HAS_TFDS = importlib.util.find_spec("tensorflow_datasets") is not None


@pytest.fixture
def photos(tmp_path):
    """Forty images of 5 x 5, a few of them alike in no way."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        image = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def prepare(fork_python, tmp_path):
    def run(*words):
        words = ["-m", "experiments.prepare_data", f"--data_dir={tmp_path / 'cache'}", *words]
        return fork_python(words, devices=1, check=False)

    return run


@pytest.fixture
def train(fork_python, tmp_path):
    def run(config, overrides, *flags):
        fields = {**SHRUNK, "data.cache_dir": tmp_path / "cache", **overrides}
        words = ["-m", "experiments.train", f"--workdir={tmp_path / 'run'}"]
        words += [f"--config=configs/{config}", *flags]
        words += [f"--config.{name}={value}" for name, value in fields.items()]
        return fork_python(words, devices=1, check=False)

    return run


def error_of(process) -> str:
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, process.stderr
    return lines[0]


def test_prepare_says_what_it_made_and_the_second_time_only_that_it_is_there(prepare, photos):
    first = prepare(f"--dataset=folder:{photos}", "--crop=4", "--bits=6")
    assert first.returncode == 0, first.stderr
    assert "reading images 60/60 images" in first.stdout
    assert "data: folder:photos, shape (4, 4, 3), 64 levels" in first.stdout
    assert "cropped to the central 4 x 4" in first.stdout and "6 of 8 bits" in first.stdout
    second = prepare(f"--dataset=folder:{photos}", "--crop=4", "--bits=6", "--verify_data")
    assert second.returncode == 0
    facts = first.stdout[first.stdout.index("data: ") :].splitlines()
    assert second.stdout.splitlines()[:-1] == facts[:-1]
    assert second.stdout.splitlines()[-1].startswith("verified in ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, r"--dataset=: no data set given; choose one of arrays, digits, folder"),
        (["--dataset=cifar"], 2, "data.name='cifar': no such data source"),
        (["--dataset=imagenet32"], 2, "two different sets go by this name"),
        (["--dataset=mnist", "--bits=x"], 2, "--bits=x: expected an integer"),
        (["--dataset=cifar10", "--size=16"], 2, "size=16: source 'cifar10' has no such option"),
        (["--dataset=folder:nowhere"], 3, "nowhere: no such folder"),
        (["--dataset=mnist", "--source_dir=nowhere"], 3, "data.source_dir=nowhere: no such folder"),
    ],
)
def test_mistakes_are_one_line(prepare, words, code, message):
    process = prepare(*words)
    assert process.returncode == code, process.stderr
    assert message in error_of(process)


def test_a_damaged_file_is_named_with_exit_code_3(prepare, photos):
    os.truncate(photos / "030.png", 40)
    process = prepare(f"--dataset=folder:{photos}")
    assert process.returncode == 3
    assert str(photos / "030.png") in error_of(process)


@pytest.mark.skipif(HAS_TFDS, reason="the extra data is installed here")
@pytest.mark.parametrize("launcher", ["train", "prepare", "dry_run"])
def test_without_the_extra_the_one_command_is_printed(launcher, prepare, train, tmp_path):
    if launcher == "prepare":
        process = prepare("--dataset=mnist")
    else:
        process = train("mnist.py", {}, *(["--dry_run"] if launcher == "dry_run" else []))
    assert process.returncode == 3, process.stderr
    line = error_of(process)
    assert "python -m vdm.runs.prepare_data --dataset=mnist" in line
    assert "pip install -e '.[data]'" in line and "train-images-idx3-ubyte.gz" in line
    assert not (tmp_path / "run").exists()


RESUMED = {"train.num_steps": 6}


@pytest.mark.slow
def test_a_run_on_a_folder_prepares_it_trains_resumes_and_evaluates(
    train, photos, fork_python, tmp_path
):
    overrides = {"data.folder.path": photos, "data.bits": 5}
    augment = {f"data.augment.{name}": True for name in ("flip", "rotate", "permute_channels")}
    first = train("folder.py", {**overrides, **augment})
    assert first.returncode == 0, first.stdout + first.stderr
    note = "5 of 8 bits per channel (floor of code / 8): not comparable with 8-bit numbers"
    assert note in first.stdout
    more = train("folder.py", {**overrides, **augment, **RESUMED}, "--allow_change=train.num_steps")
    assert more.returncode == 0 and "resuming" in more.stdout, more.stdout + more.stderr
    assert "reading images" not in more.stdout
    # The trained run needs neither the folder nor where it was.
    photos.rename(tmp_path / "elsewhere")
    words = ["-m", "experiments.evaluate", f"--workdir={tmp_path / 'run'}", "--verify_data"]
    found = fork_python(words, devices=1, check=False)
    assert found.returncode == 0 and note in found.stdout, found.stdout + found.stderr
    report = next((tmp_path / "run" / "evaluations").glob("test-step6-*.json"))
    assert note in json.loads(report.read_text())["data"]["notes"]


@pytest.mark.slow
def test_missing_images_are_printed_with_the_number(train, shared_dir, tmp_path):
    source = shared_dir / "data" / "cifar10"
    overrides = {"data.source_dir": source, "evaluate.split": "validation"}
    overrides |= {"evaluate.batch_size": 500, "evaluate.randomisations": 1}
    process = train("cifar10.py:small", overrides)
    assert process.returncode == 0, process.stdout + process.stderr
    table = process.stdout[process.stdout.index("total  ") :]
    assert "1000 images of cifar10/validation" in table
    assert "93 of 60000 published images are missing (73 of train, 20 of test)" in table


def test_augmentation_that_does_not_fit_is_refused_at_the_start(train, photos):
    overrides = {"data.name": f"folder:{photos}", "data.augment.rotate": True}
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(photos / "wide.png")
    for path in photos.glob("0*.png"):
        Image.open(path).crop((0, 0, 4, 5)).save(path)
    process = train("folder.py", overrides)
    assert process.returncode == 2, process.stderr
    assert "data.augment.rotate=True: images of 5 x 4 are not square" in error_of(process)


def test_a_trained_run_finds_its_data_with_classes_and_without_its_files(
    photos, tmp_path, repository, monkeypatch
):
    monkeypatch.chdir(repository)
    for number, path in enumerate(sorted(photos.glob("*.png"))):
        (photos / "ab"[number % 2]).mkdir(exist_ok=True)
        path.rename(photos / "ab"[number % 2] / path.name)
    config = load_config("configs/folder.py").to_dict()
    config["train"]["batch_size"] = 8
    config["data"] |= {"cache_dir": str(tmp_path / "cache"), "name": f"folder:{photos}"}
    first = build(config).dataset
    record = {"config": config, "data": data_identity(first.spec)}
    write_json(tmp_path / "config.json", record)
    identity = read_identity(tmp_path)
    again = build_trained(identity).dataset
    assert again.spec == first.spec
    np.testing.assert_array_equal(again.labels["train"], first.labels["train"])
    assert set(first.labels["train"].tolist()) == {0, 1}
    photos.rename(tmp_path / "elsewhere")
    assert build_trained(identity).dataset.spec == first.spec


@pytest.fixture
def photos_of_splits(photos):
    """The first forty in train/, ten each in val/ and test/."""
    for number, path in enumerate(sorted(photos.glob("*.png"))):
        split = "train" if number < 40 else ("val", "test")[number >= 50]
        (photos / split).mkdir(exist_ok=True)
        path.rename(photos / split / path.name)
    return photos


def test_folders_of_splits_are_read_as_they_are_or_refused(prepare, photos_of_splits):
    process = prepare(f"--dataset=folder:{photos_of_splits}")
    assert process.returncode == 0, process.stderr
    assert "images: train 40, validation 10, test 10" in process.stdout
    assert "SHA-256; " not in process.stdout  # no image was drawn by hash
    (photos_of_splits / "cats").mkdir()
    (photos_of_splits / "test" / "059.png").rename(photos_of_splits / "cats" / "1.png")
    process = prepare(f"--dataset=folder:{photos_of_splits}")
    assert process.returncode == 3 and "two readings are possible" in error_of(process)
    process = prepare(f"--dataset=folder:{photos_of_splits}", "--splits=none")
    assert process.returncode == 0 and "validation 2, test 3" in process.stdout


def earlier_run(folder, cache):
    """Identity of a run on a pool of splits as revisions before "splits" left it, and its data."""
    config = load_config("configs/folder.py").to_dict()
    config["train"]["batch_size"] = 8
    config["data"] |= {"cache_dir": str(cache), "name": f"folder:{folder}"}
    config["data"]["folder"]["splits"] = "none"
    dataset = build(config).dataset
    (path,) = (cache / "catalogue").glob("*/record.json")
    record = json.loads(path.read_text())
    del record["request"]["source"]["splits"], config["data"]["folder"]["splits"]
    path.write_text(json.dumps(record))
    path.parent.rename(path.parent.with_name(catalogue.request_hash(record["request"])))
    write_json(cache / "config.json", {"config": config, "data": data_identity(dataset.spec)})
    return read_identity(cache), dataset


@pytest.mark.parametrize("kind", ["as it was", "moved", "changed", "no cache"])
def test_a_run_of_an_earlier_revision_keeps_its_split_with_one_warning(
    kind, photos_of_splits, tmp_path, repository, monkeypatch, capsys
):
    monkeypatch.chdir(repository)
    cache = tmp_path / "cache"
    identity, dataset = earlier_run(photos_of_splits, cache)
    now = load_config("configs/folder.py").to_dict()
    now["data"] |= {"cache_dir": str(cache), "name": f"folder:{photos_of_splits}"}
    if kind == "moved":
        photos_of_splits.rename(tmp_path / "elsewhere")
    elif kind == "changed":
        next(photos_of_splits.glob("train/*")).unlink()
    elif kind == "no cache":
        shutil.rmtree(cache)
    capsys.readouterr()
    for again in (lambda: build(now, saved=identity), lambda: build_trained(identity)):
        found = again().dataset
        assert found.spec == dataset.spec
        with_classes = kind in ("as it was", "no cache")
        assert found.labels.keys() == (dataset.labels.keys() if with_classes else set())
        assert capsys.readouterr().err.count("warning: ") == 1
    # Once resumed, its configuration has the field.
    assert build(now, saved={**identity, "config": now}).dataset.spec == dataset.spec


def test_a_run_that_is_resumed_reads_its_splits_without_a_warning(
    photos_of_splits, tmp_path, repository, monkeypatch, capsys
):
    monkeypatch.chdir(repository)
    config = load_config("configs/folder.py").to_dict()
    config["train"]["batch_size"] = 8
    config["data"] |= {"cache_dir": str(tmp_path / "c"), "name": f"folder:{photos_of_splits}"}
    dataset = build(config).dataset
    identity = {"config": config, "data": data_identity(dataset.spec)}
    assert build(config, saved=identity).dataset.spec == dataset.spec
    (photos_of_splits / "test" / "059.png").unlink()
    assert build(config, saved=identity).dataset.spec.split_sizes["test"] == 9
    assert "warning" not in capsys.readouterr().err


TRACED = """
import runpy, sys
sys.argv = {words!r}
try:
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
finally:
    names = ("tensorflow", "tensorflow_datasets")
    print("imported:", [name for name in names if name in sys.modules])
"""


@pytest.mark.slow
def test_training_imports_neither_tensorflow_nor_tfds(fork_python, photos, tmp_path):
    fields = {**SHRUNK, "data.cache_dir": tmp_path / "cache", "data.folder.path": photos}
    words = ["train", "--config=configs/folder.py", f"--workdir={tmp_path / 'run'}"]
    words += [f"--config.{name}={value}" for name, value in fields.items()]
    process = fork_python(TRACED.format(words=[str(word) for word in words]), devices=1)
    assert process.stdout.splitlines()[-1] == "imported: []"
    assert "total  " in process.stdout
