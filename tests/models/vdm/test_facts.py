"""The facts that stand beside every number of a model."""

import json

import pytest

from vdm.models import make_family
from vdm.runs.defaults import default_config
from vdm.types import DataSpec


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["unet", "mlp"])
def test_facts_are_json_and_name_the_dtype(network, dtype):
    config = default_config()
    config["denoiser"]["name"] = network
    config["denoiser"][network]["dtype"] = dtype
    spec = DataSpec("images", (4, 4, 1), 4, {"train": 8}, "0" * 64)
    facts = make_family(spec, config).facts()
    assert json.loads(json.dumps(facts)) == facts and facts["dtype"] == dtype
