"""Report on a schedule per pixel: maps of gamma, their spread over images, and the context's KL.

Such schedules are those of Sahoo et al. 2023, MuLAN (arXiv:2312.13236): gamma differs between
dimensions and, with a context c ~ q(c|x), between images.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports import page
from experiments.reports.page import Drawing, Figure, plt
from experiments.reports.tables import Table, to_html
from vdm.distributions import codes, value_of
from vdm.errors import ConfigError
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm.noise import evaluation_contexts
from vdm.plots import plot_context_kl, plot_map
from vdm.runs.folder import write_arrays
from vdm.types import Params

NUM_GRID = 257
"""Times at which gamma is compared with its middle, to find when a pixel passes it."""
_CAPTIONS = {
    "gamma": "γ of every pixel, mean over images and channels",
    "spread": "Deviation of γ over images",
    "order": "The time at which a pixel is half way, in γ, from image to noise: dark is first",
    "auxiliary": "What each image's context costs",
}


@dataclasses.dataclass(frozen=True)
class NoiseMaps:
    """Noise levels of every dimension at F times, over N images.

    Attributes:
      times: t of the maps [F], from 0 to 1.
      gamma: mean over images at those times [F,H,W,C].
      spread: standard deviation over images [F,H,W,C]; 0 without a context.
      half_way: time at which gamma passes (gamma_0 + gamma_1)/2, mean over images [H,W,C].
      auxiliary_bits: KL(q(c|x) || p(c)) of every image, bits (not per dimension) [N]; 0 without a
        context.
    """

    times: np.ndarray
    gamma: np.ndarray
    spread: np.ndarray
    half_way: np.ndarray
    auxiliary_bits: np.ndarray


def read_times(words: Sequence[str]) -> np.ndarray:
    """Return the times of flag --times [F].

    Raises:
      ConfigError: no times, or something other than numbers in [0, 1].
    """
    try:
        times = np.array([float(word) for word in words])
    except ValueError:
        times = np.array([np.nan])
    if not (len(times) and np.all((times >= 0) & (times <= 1))):
        raise ConfigError(f"--times={','.join(words)}: give numbers in [0, 1], with commas")
    return times


def check(model: DiffusionModel) -> None:
    """Check that the model has a gamma per dimension.

    Raises:
      ConfigError: a scalar schedule, whose maps would be flat.
    """
    if model.has_scalar_gamma:
        raise ConfigError(
            f"--workdir: the schedule {type(model.schedule).__name__} of this run has one gamma for "
            "all pixels; for its curve use experiments.schedules"
        )


def measure(
    model: DiffusionModel, params: Params, images: np.ndarray, times, seed: int
) -> NoiseMaps:
    """Measure the maps of a model over images, with one context c ~ q(c|x) for each image.

    Args:
      model: a diffusion model with a gamma per dimension.
      params: its parameters.
      images: integers [N,H,W,C].
      times: t of the maps [F], from 0 to 1.
      seed: seed of the contexts.
    """
    # Noise by (seed, image index) alone, as in evaluations: the maps do not depend on the batch.
    x, index = codes.bin_centres(jnp.asarray(images), model.num_levels), jnp.arange(len(images))
    noise = evaluation_contexts(seed, 0, 0, index, model.draw_context)
    context = jax.jit(lambda p: model.encode(p, x, noise))(params)

    # Compiled once for all times: t is an argument.
    @jax.jit
    def gamma_at(params, t):
        value = value_of(context)
        size = 1 if context is None else len(images)
        gamma = model.gamma(params, jnp.full(size, t), value)
        return jnp.broadcast_to(gamma, (size, *model.shape))

    # The end points are the same for all dimensions, so one number is half way for all of them.
    ends = model.end_gammas(params)
    half = 0.5 * (float(ends[0].mean()) + float(ends[1].mean()))
    gammas = [np.float64(gamma_at(params, jnp.float32(t))) for t in times]
    below = np.zeros(gammas[0].shape)
    for t in (np.arange(NUM_GRID) + 0.5) / NUM_GRID:
        # gamma increases, so the share of the time it spends below its middle is when it passes it.
        below += np.asarray(gamma_at(params, jnp.float32(t)) < half) / NUM_GRID
    kl_bits = np.zeros(len(images)) if context is None else np.float64(context.kl) / np.log(2)
    return NoiseMaps(
        np.asarray(times),
        np.stack([g.mean(axis=0) for g in gammas]),
        np.stack([g.std(axis=0) for g in gammas]),
        below.mean(axis=0),
        kl_bits,
    )


def all_tables(maps: NoiseMaps) -> dict[str, Table]:
    """Return the tables of the page.

    Returns:
      {"gamma": a row per time, with means and extremes over pixels; "auxiliary": one row with the mean
      KL of the contexts in bits per image and in bits/dim, with standard errors over images}.
    """
    rows = [
        (float(t), *(float(v) for v in (g.mean(), g.min(), g.max(), g.std(), s.mean())))
        for t, g, s in zip(maps.times, maps.gamma, maps.spread, strict=True)
    ]
    of_pixels = ("gamma_mean", "lowest_pixel", "highest_pixel", "deviation_over_pixels")
    columns = ("t", *of_pixels, "deviation_over_images")
    bits, num_dims = maps.auxiliary_bits, maps.half_way.size
    error = float(bits.std(ddof=1)) / np.sqrt(len(bits))
    cells = (len(bits), float(bits.mean()), error, float(bits.mean()) / num_dims, error / num_dims)
    names = ("images", "bits_per_image", "standard_error", "bits_per_dim", "standard_error_per_dim")
    return {"gamma": Table(columns, rows), "auxiliary": Table(names, [cells])}


def write(out: Path, maps: NoiseMaps, facts: str) -> Path:
    """Write index.html, figures, tables and maps.npz.

    Args:
      out: the folder.
      maps: what `measure` returned.
      facts: images, checkpoint step and seed, for the reader.

    Returns:
      The path of index.html.
    """
    tables = all_tables(maps)
    # Without a context spread and KL are zero everywhere, and are not drawn.
    drawings: dict[str, Drawing] = {
        "gamma": functools.partial(_draw_maps, maps.times, maps.gamma, "viridis"),
        "order": functools.partial(_draw_maps, ["half way"], maps.half_way[None], "magma"),
    }
    if maps.auxiliary_bits.any():
        drawings["spread"] = functools.partial(_draw_maps, maps.times, maps.spread, "viridis")
        drawings["auxiliary"] = functools.partial(_draw_bits, maps.auxiliary_bits)
    figures = page.render(drawings)
    write_arrays(out / "maps.npz", dataclasses.asdict(maps))
    parts = [page.paragraph(facts, "facts")]
    for name, kinds in figures.items():
        contents = [page.picture(kinds["png"], _CAPTIONS[name])]
        contents += [to_html(tables[name])] if name in tables else []
        parts.append(page.section(_CAPTIONS[name], *contents))
    document = page.document("Noise per pixel", parts)
    return page.write(out, document, tables, figures, facts, tables)


def _draw_maps(titles, maps: np.ndarray, colours: str) -> Figure:
    """Draw a panel per map of `maps` [F,H,W,C], the mean over channels, each on its own scale."""
    size = (2.6 * len(maps) + 0.6, 2.6)
    figure, panels = plt.subplots(1, len(maps), figsize=size, layout="constrained", squeeze=False)
    for axes, title, values in zip(panels[0], titles, maps.mean(axis=-1), strict=True):
        plot_map(axes, values, colours=colours)
        axes.set_title(title if isinstance(title, str) else f"t = {title:g}")
    return figure


def _draw_bits(bits: np.ndarray) -> Figure:
    """Draw the histogram of the contexts' KL, bits per image [N]."""
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    plot_context_kl(axes, bits)
    return figure
