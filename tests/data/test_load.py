"""`load`: names and options that do not exist are refused with the choices."""

import numpy as np
import pytest

from vdm.data import RECIPES, SOURCES, load
from vdm.errors import ConfigError, DataError


def test_an_unknown_name_lists_the_choices(tmp_path):
    listed = ", ".join(sorted({**SOURCES, **RECIPES}))
    message = f"data.name='digit': no such data source; choose one of {listed}"
    with pytest.raises(ConfigError, match=message):
        load("digit", {}, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"num_levels": 4}, r"num_levels=4: source 'digits' .*; it has none"),
        ("arrays", {"file": "a"}, r"file='a': source 'arrays' .*; choose from path, num_levels"),
        ("arrays", {}, r"data option path: source 'arrays' needs it"),
        ("arrays", {"num_levels": 4}, r"data option path: source 'arrays' needs it"),
    ],
)
def test_unknown_and_missing_options_are_named(tmp_path, name, options, message):
    with pytest.raises(ConfigError, match=message):
        load(name, options, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_options_reach_the_source_and_the_callers_stay_as_they_are(tmp_path):
    images = np.arange(40).reshape(20, 1, 2, 1)
    np.save(tmp_path / "a.npy", images)
    options = {"path": str(tmp_path / "a.npy"), "num_levels": 40}
    data = load("arrays", options, tmp_path / "cache")
    assert data.spec.name == "arrays" and data.spec.num_levels == 40
    assert "drawn from one array" in data.spec.notes
    assert options == {"path": str(tmp_path / "a.npy"), "num_levels": 40}


def test_errors_carry_the_exit_code_of_their_kind(tmp_path):
    with pytest.raises(ConfigError) as config:
        load("nothing", None, tmp_path)
    with pytest.raises(DataError) as data:
        load("arrays", {"path": "no.npz"}, tmp_path)
    assert (config.value.exit_code, data.value.exit_code) == (2, 3)
