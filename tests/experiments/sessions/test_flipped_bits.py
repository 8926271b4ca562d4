"""Fault: one flipped bit, 500 times, over every file of a run's newest checkpoint."""

import shutil

import numpy as np
import pytest

from experiments.sessions import training
from vdm.errors import VdmError
from vdm.runs import checkpoints
from vdm.runtime.hashes import fingerprints

NUM_FLIPS, OLDER, NEWEST = 500, 2, 4
RUN = {"num_steps": 4, "save_every_steps": 2, "evaluate_every_steps": 2, "num_samples": 0}


@pytest.fixture(scope="module")
def parts(make_parts):
    return make_parts(**RUN)


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    """A finished run with checkpoints of two validated steps; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    training.run(parts, folder)
    return folder


def restored(folder, parts):
    """(step, all that a resumed run takes from its checkpoint)."""
    store = checkpoints.open_checkpoints(folder)
    try:
        state, record = checkpoints.restore_state(store, parts)
        step = int(state.step)
        return step, (fingerprints(state), record, store.metric(step))
    finally:
        store.close()


def without(trained, step, folder):
    """A copy of the run without one step."""
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "checkpoints" / str(step))
    return folder


def flips(folder, rng):
    """500 of (file, byte, bit): every file in turn, until all have had their share."""
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    sizes = {path: (folder / path).stat().st_size for path in paths}
    paths = [path for path in paths if sizes[path]]
    for n in range(NUM_FLIPS):
        path = paths[n % len(paths)]
        yield path, int(rng.integers(sizes[path])), int(rng.integers(8))


@pytest.mark.nightly
def test_a_flipped_bit_is_harmless_or_named(trained, parts, tmp_path, capsys):
    """Bit-equal, or the older step with a WARNING, or an error: never another number."""
    expected = dict(
        restored(without(trained, other, tmp_path / str(other)), parts) for other in (OLDER, NEWEST)
    )
    assert set(expected) == {OLDER, NEWEST}
    capsys.readouterr()

    folder, outcomes, wrong = tmp_path / "flipped", {"equal": 0, "older": 0, "refused": 0}, []
    for path, byte, bit in flips(trained / "checkpoints" / str(NEWEST), np.random.default_rng(0)):
        shutil.copytree(trained, folder)
        file = folder / "checkpoints" / str(NEWEST) / path
        content = bytearray(file.read_bytes())
        content[byte] ^= 1 << bit
        file.write_bytes(content)
        try:
            step, found = restored(folder, parts)
        except VdmError as error:
            outcome = "refused" if str(NEWEST) in str(error) else f"unnamed: {error}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        else:
            err = capsys.readouterr().err
            told = step == NEWEST or ("WARNING" in err and f"/{NEWEST}" in err)
            outcome = {NEWEST: "equal", OLDER: "older"}[step] if told else "fell back in silence"
            if found != expected[step]:
                outcome = "another state, record or metric"
        if outcome in outcomes:
            outcomes[outcome] += 1
        else:
            wrong.append((str(path), byte, bit, outcome))
        shutil.rmtree(folder)
    assert wrong == [] and outcomes["equal"] >= 50 and outcomes["older"] >= 50
