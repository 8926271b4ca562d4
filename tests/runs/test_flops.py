"""FLOPs of a training step against a count by hand."""

import pytest

from experiments.cli.parsing import load_config
from vdm.runs.flops import train_step_flops
from vdm.runs.parts import build


@pytest.fixture(scope="module")
def config():
    config = load_config("configs/digits.py")
    config.denoiser.unet.channels = 16
    config.train.batch_size = 8
    return config


def flops(config, tmp_path, **options):
    config = config.copy_and_resolve_references()
    config.denoiser.unet.update(options)
    return train_step_flops(build(config.to_dict(), tmp_path))


@pytest.mark.slow
def test_blocks_cost_what_their_convolutions_cost(config, tmp_path, monkeypatch):
    """Two more blocks (one in, one out) with two 3x3 convolutions each, forward and twice backward."""
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path))
    one, two = (flops(config, tmp_path, num_blocks=n, unroll=False) for n in (1, 2))
    # Per image, pixel and kernel element 2 operations; the block going out takes 32 channels in, and
    # a 1x1 convolution past it. The borders of 8x8 images see fewer elements.
    inside = (3 * 8 - 2) ** 2
    convolutions = 16 * 16 * (2 + 3) * inside + 32 * 16 * 64
    by_hand = 3 * 2 * 8 * convolutions
    assert two - one == pytest.approx(by_hand, rel=0.15)


@pytest.mark.slow
def test_attention_counts_alike_however_it_is_computed(config, tmp_path, monkeypatch):
    """XLA counts the body of a loop over images once."""
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path))
    whole = flops(config, tmp_path, attention=True)
    monkeypatch.setattr("vdm.networks.attention.MIN_POSITIONS_BY_IMAGE", 16)
    assert flops(config, tmp_path, attention=True) == whole


@pytest.mark.slow
def test_a_conditional_schedule_is_counted_with_its_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path))
    found = []
    for name in ("per_pixel", "conditional"):
        config = load_config(f"configs/digits.py:{name}")
        config.denoiser.unet.channels, config.train.batch_size = 8, 8
        found.append(train_step_flops(build(config.to_dict(), tmp_path)))
    assert found[1] > found[0] > 0
