"""Builders of hostile work folders: `build(folder)` changes a copy of a run in folder/run."""

import json
import os
import pickle
import shutil

from tests.hostile.files import Command
from vdm.runtime.hashes import sealed, unsealed

HUGE = 20_000
"""Width of a network whose parameters take 3 GB."""


def evaluate(folder):
    return ["evaluate", f"--workdir={folder / 'run'}", "--timesteps=1"]


def sample(folder):
    return ["sample", f"--workdir={folder / 'run'}", "--num=1", "--batch_size=1"]


def config(content, launcher=evaluate):
    """A case of another config.json: bytes, or a function that changes what is in it."""

    def build(folder):
        path = folder / "run" / "config.json"
        if callable(content):
            identity = json.loads(path.read_text(encoding="utf-8"))
            content(identity)
            path.write_text(json.dumps(identity), encoding="utf-8")
        else:
            path.write_bytes(content)
        return launcher(folder)

    return build


def field(name, value, launcher=evaluate):
    """A case of a config.json with one dotted name set."""
    *groups, leaf = name.split(".")

    def change(identity):
        for group in groups:
            identity = identity[group]
        identity[leaf] = value

    return config(change, launcher)


def step_of(folder):
    (step,) = (path for path in (folder / "run" / "checkpoints").iterdir() if path.name.isdigit())
    return step


def record(change, launcher=evaluate):
    """A case of another record of the checkpoint, under a valid hash over itself."""

    def build(folder):
        path = step_of(folder) / "record" / "metadata"
        content = unsealed(json.loads(path.read_text(encoding="utf-8")))
        change(content)
        path.write_text(json.dumps(sealed(content)), encoding="utf-8")
        return launcher(folder)

    return build


def every_file(content, below=""):
    """A case of a checkpoint whose files, of the item `below`, all have other bytes."""

    def build(folder):
        for path in (step_of(folder) / below).rglob("*"):
            if path.is_file():
                path.write_bytes(content)
        return evaluate(folder)

    return build


def linked(name, target):
    """A case of a link to ../outside in place of something in the work folder."""

    def build(folder):
        link = folder / "run" / name.replace("STEP", step_of(folder).name)
        shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(folder.parent / "outside" / target)
        return evaluate(folder)

    return build


def pipe(folder):
    (folder / "run" / "config.json").unlink()
    os.mkfifo(folder / "run" / "config.json")
    return evaluate(folder)


def directory(folder):
    (folder / "run" / "config.json").unlink()
    (folder / "run" / "config.json").mkdir()
    return evaluate(folder)


def changed_record(folder):
    path = step_of(folder) / "record" / "metadata"
    path.write_bytes(path.read_bytes().replace(b'"seconds": ', b'"seconds": 1', 1))
    return evaluate(folder)


def wide(folder):
    """Configuration and record agree on parameters of which nothing is stored."""

    def widen(content):
        for array in content["arrays"]["ema"].values():
            array["shape"] = [HUGE if size == 8 else size for size in array["shape"]]

    record(widen)(folder)
    return field("config.denoiser.mlp.width", HUGE)(folder)


def names_a_module(content):
    content["arrays"]["ema"] = {"os.system": {"shape": [], "dtype": "os.system", "sha256": ""}}


FOLDERS = {
    "json: cut": config(b'{"config": {'),
    "json: empty": config(b""),
    "json: a list": config(b"[1, 2]"),
    "json: a number": config(b"3"),
    "json: lists 100,000 deep": config(b"[" * 100_000),
    "json: objects 100,000 deep": config(b'{"config": ' + b'{"a": ' * 100_000),
    "json: a number of 100,000 digits": config(b'{"config": ' + b"9" * 100_000 + b', "data": {}}'),
    "json: UTF-16": config('{"config": {}}'.encode("utf-16")),
    "json: binary": config(bytes(range(256))),
    "json: a program": config(b"__import__('os').system('touch ../outside/pwned')"),
    "json: a pickle": config(pickle.dumps(Command())),
    "json: a pipe": pipe,
    "json: a folder": directory,
    "json: schedule that is a module": field("config.schedule.name", "os.system"),
    "json: network that is a module": field("config.denoiser.name", "os.system", sample),
    "json: data that are a device": field("config.data.name", "arrays:/dev/zero"),
    "json: data that are a program": field("config.data.name", "tfds:someone:cats"),
    "json: content hash that is a path": field("data.content_hash", "../../outside"),
    "json: split that is a path": field("config.evaluate.split", "../../../outside/test"),
    "json: width of 10^9": field("config.denoiser.mlp.width", 10**9),
    "json: images of 30 GB": field("data.shape", [100_000, 100_000, 3], sample),
    "json: images of 2 axes": field("data.shape", [4, 4], sample),
    "json: images of text": field("data.shape", "abc", sample),
    "json: images without levels": field("data.num_levels", -3, sample),
    "json: width of text": field("config.denoiser.mlp.width", "8; import os", sample),
    "json: no configuration": field("config", 3, sample),
    "checkpoint: record that names a module": record(names_a_module),
    "checkpoint: record changed": changed_record,
    "checkpoint: record of lists": record(lambda content: content.update(arrays=[[]] * 9)),
    "checkpoint: record without arrays": record(lambda content: content.pop("arrays")),
    "checkpoint: arrays of 3 GB, not stored": wide,
    "checkpoint: empty files": every_file(b""),
    "checkpoint: random files": every_file(os.urandom(4096)),
    "checkpoint: pickles": every_file(pickle.dumps(Command())),
    "checkpoint: damaged arrays": every_file(b"\0" * 4096, "ema"),
    "checkpoint: step that is a link": linked("checkpoints/STEP", "step"),
    "checkpoint: file that is a link": linked("checkpoints/STEP/ema/manifest.ocdbt", "secret.png"),
    "records: folder that is a link": linked("evaluations", "records"),
    "records: file that is a link": linked("evaluations/test.json", "secret.png"),
    "records: metrics that are a link": linked("metrics.jsonl", "secret.png"),
}
"""{part of the folder: what is wrong: builder}; each is refused with exit code 2, 3 or 5."""
