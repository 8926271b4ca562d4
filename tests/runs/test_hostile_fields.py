"""Every field of a configuration with hostile values: built, or refused by name before step 1."""

import itertools
import math
import re

import numpy as np
import pytest

from vdm import runs
from vdm.errors import ConfigError, DataError
from vdm.evaluation.bounds import base
from vdm.runs import parts, ranges
from vdm.runs.config import flatten
from vdm.runs.defaults import KINDS, default_config
from vdm.runs.folder import require_identity

HOSTILE = (None, -1, 10**12, 1e30, math.nan, math.inf, -math.inf, "", "typo", [], ["typo", 1], {})
SHARED = ("augment", "resize", "encoder", "weight")
"""Groups of options that are no variant's own."""
TYPED = {field: KINDS.get(field, type(value)) for field, value in flatten(default_config()).items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(cache of prepared data, a .npy of 40 images)."""
    folder = tmp_path_factory.mktemp("hostile")
    images = np.random.default_rng(0).integers(0, 4, (40, 4, 4, 1), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    return folder / "cache", folder / "images.npy"


def whole(images):
    """A small run on the images."""
    config = default_config()
    config["data"] |= {"name": "arrays", "arrays": {"path": str(images), "num_levels": 4}}
    config["denoiser"]["name"] = "mlp"
    config["denoiser"]["mlp"] |= {"width": 8, "num_blocks": 1}
    config["denoiser"]["unet"] |= {"channels": 8, "num_blocks": 1}
    config["train"]["batch_size"] = 8
    return config


def put(config, field, value):
    """Set a field, and choose the variant whose option it is."""
    *groups, name = field.split(".")
    section = config
    for depth, group in enumerate(groups, start=1):
        section = section[group]
        if "name" in section and depth < len(groups) and groups[depth] not in SHARED:
            section["name"] = groups[depth]
    section[name] = value
    # Options that count only in the company of others.
    if groups[:1] == ["context"] or "conditional" in field:
        config["schedule"]["name"] = "conditional_polynomial"
        if config["context"]["name"] == "none":
            config["context"]["name"] = "gaussian"
    if field in ("schedule.rank", "schedule.sharing"):
        config["schedule"] |= {"name": "pixel_polynomial", "sharing": "low_rank", name: value}


@pytest.mark.nightly
@pytest.mark.parametrize("section", default_config())
def test_builds_or_names_the_field(section, folders, monkeypatch):
    """No KeyError, no TypeError out of a library, no error of another field."""
    monkeypatch.chdir(folders[1].parent)  # "typo" is a folder, too
    wrong = []
    for field in (field for field in TYPED if field.split(".")[0] == section):
        for value in HOSTILE:
            config = whole(folders[1])
            put(config, field, value)
            try:
                runs.build(config, cache_dir=folders[0])
            except (ConfigError, DataError) as error:
                if field.rpartition(".")[2] not in str(error):
                    wrong.append(f"{field}={value!r}: {error}")
            except Exception as error:
                wrong.append(f"{field}={value!r}: {type(error).__name__}: {error}")
    assert wrong == []


def test_a_value_of_another_type_is_refused_at_once():
    """Before data are opened: there are none."""
    for field, value in itertools.product(TYPED, ([], {}, ["typo", 1], b"", 1j)):
        config = whole("nowhere.npy")
        put(config, field, value)
        if not (value == [] and TYPED[field] is tuple):
            with pytest.raises(ConfigError, match=rf"config\.{re.escape(field)}\b"):
                runs.build(config)


NUMBERS = [field for field, kind in TYPED.items() if kind in (int, float)]


def test_every_number_has_a_range():
    assert [field for field in NUMBERS if field not in ranges.RANGES] == []
    assert ranges.MAX_TIMESTEPS == base.MAX_TIMESTEPS


def beyond(allowed):
    """Numbers outside a range."""
    return math.nan, math.inf, -math.inf, allowed.least - 1, allowed.most * 1.5 + 1


def test_an_integer_beyond_every_float_is_refused():
    assert ranges.SEED.refusal(10**400) and ranges.ANY.refusal(-(10**400))


def test_a_number_beyond_its_range_is_refused_at_once():
    cases = [(field, n) for field in NUMBERS for n in beyond(ranges.RANGES[field])]
    for field, value in cases:
        value = value if TYPED[field] is float or not math.isfinite(value) else int(value)
        if ranges.RANGES[field] == ranges.ANY and math.isfinite(value):
            continue
        config = whole("nowhere.npy")
        put(config, field, value)
        with pytest.raises(ConfigError, match=rf"config\.{re.escape(field)}="):
            runs.build(config)


def test_a_run_that_began_before_a_range_goes_on():
    """With its own value, not with another one beyond the range."""
    saved = {"optimizer": {"ema_decay": 0.9999999}}
    ranges.check_ranges(saved, saved)
    for accepted in (None, {"optimizer": {"ema_decay": 0.9}}):
        with pytest.raises(ConfigError, match=r"config\.optimizer\.ema_decay="):
            ranges.check_ranges(saved, accepted)


TOO_LATE = {
    "a split that the data lack": (
        {"evaluate.split": "tset"},
        r"evaluate\.split='tset'.*test, train",
    ),
    "T beyond float32": (
        {"objective.num_timesteps": 10**6 + 1},
        r"objective\.num_timesteps=1000001",
    ),
    "T of the evaluation": ({"evaluate.num_timesteps": 10**7}, r"evaluate\.num_timesteps=10000000"),
    "a batch larger than the set": ({"train.batch_size": 37}, r"train\.batch_size=37.* 36 images"),
    "a decay that float32 rounds to 1": (
        {"optimizer.ema_decay": 1 - 1e-9},
        r"optimizer\.ema_decay",
    ),
    "an update of 0/0": ({"optimizer.eps": 0.0}, r"optimizer\.eps=0\.0: must be at least"),
    "letters for names": (
        {"train.writers": "json_lines"},
        r"train\.writers='json_lines': expected",
    ),
    "one writer twice": ({"train.writers": ("json_lines",) * 2}, r"train\.writers=.* twice"),
    "no interior loss": ({"objective.interior_loss": ""}, r"interior_loss=''"),
    "a span without precision": (
        {"schedule.name": "sigmoid", "schedule.sigmoid.start": 0.0, "schedule.sigmoid.end": 1e-20},
        r"schedule\.sigmoid\.start=0\.0",
    ),
}


@pytest.mark.parametrize("case", TOO_LATE)
def test_what_would_fail_hours_later_is_refused_at_once(folders, case):
    fields, message = TOO_LATE[case]
    config = whole(folders[1])
    for field, value in fields.items():
        put(config, field, value)
    with pytest.raises(ConfigError, match=message):
        runs.build(config, cache_dir=folders[0])


def test_more_warm_up_than_steps_is_told(folders, caplog):
    config = whole(folders[1])
    put(config, "train.num_steps", 50)
    runs.build(config, cache_dir=folders[0])
    assert "optimizer.warmup_steps=100" in caplog.text


def test_a_split_of_no_data_is_refused_before_data_are_opened(tiny_run, monkeypatch):
    """They may have to be prepared first, for hours."""
    monkeypatch.setattr(parts, "open_trained_data", None)
    identity = require_identity(tiny_run[0])
    with pytest.raises(DataError, match=r"split='dev'.* train, validation, test"):
        parts.build_trained(identity, split="dev")
