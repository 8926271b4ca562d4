"""Maps of gamma over pixels and images: what is measured, figures, tables, one page."""

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
from vdm.runs.folder import write_arrays
from vdm.types import Params

NUM_GRID = 257
_CAPTIONS = {
    "gamma": "γ of every pixel, mean over images and channels",
    "spread": "Deviation of γ over images",
    "order": "The time at which a pixel is half way, in γ, from image to noise: dark is first",
    "auxiliary": "What each image's context costs",
}


@dataclasses.dataclass(frozen=True)
class NoiseMaps:
    """Attributes:
    times: [F].
    gamma: at those times, mean over images [F,H,W,C].
    spread: deviation over images [F,H,W,C]; 0 without a context.
    half_way: time at which gamma passes (gamma_0 + gamma_1)/2, mean over images [H,W,C].
    auxiliary_bits: KL(q(c|x) || p(c)) of every image, bits (not per dimension) [N].
    """

    times: np.ndarray
    gamma: np.ndarray
    spread: np.ndarray
    half_way: np.ndarray
    auxiliary_bits: np.ndarray


def read_times(words: Sequence[str]) -> np.ndarray:
    """ConfigError unless numbers in [0, 1]."""
    try:
        times = np.array([float(word) for word in words])
    except ValueError:
        times = np.array([np.nan])
    if not (len(times) and np.all((times >= 0) & (times <= 1))):
        raise ConfigError(f"--times={','.join(words)}: give numbers in [0, 1], with commas")
    return times


def check(model: DiffusionModel) -> None:
    """ConfigError for a scalar schedule, whose maps would be flat."""
    if model.has_scalar_gamma:
        raise ConfigError(
            f"--workdir: the schedule {type(model.schedule).__name__} of this run has one gamma for "
            "all pixels; for its curve use experiments.schedules"
        )


def measure(
    model: DiffusionModel, params: Params, images: np.ndarray, times, seed: int
) -> NoiseMaps:
    """The maps of `images` [N,H,W,C], each with one context c ~ q(c|x)."""
    x, index = codes.bin_centres(jnp.asarray(images), model.num_levels), jnp.arange(len(images))
    noise = evaluation_contexts(seed, 0, 0, index, model.draw_context)
    context = jax.jit(lambda p: model.encode(p, x, noise))(params)

    @jax.jit
    def gamma_at(params, t):
        value = value_of(context)
        size = 1 if context is None else len(images)
        gamma = model.gamma(params, jnp.full(size, t), value)
        return jnp.broadcast_to(gamma, (size, *model.shape))

    ends = model.end_gammas(params)
    half = 0.5 * (float(ends[0].mean()) + float(ends[1].mean()))
    gammas = [np.float64(gamma_at(params, jnp.float32(t))) for t in times]
    below = np.zeros(gammas[0].shape)
    for t in (np.arange(NUM_GRID) + 0.5) / NUM_GRID:
        # The share of the time that gamma spends below its middle is when it passes it.
        below += np.asarray(gamma_at(params, jnp.float32(t)) < half) / NUM_GRID
    price = np.zeros(len(images)) if context is None else np.float64(context.kl) / np.log(2)
    return NoiseMaps(
        np.asarray(times),
        np.stack([g.mean(axis=0) for g in gammas]),
        np.stack([g.std(axis=0) for g in gammas]),
        below.mean(axis=0),
        price,
    )


def all_tables(found: NoiseMaps) -> dict[str, Table]:
    """ "gamma": a row per time; "auxiliary": one row, bits per image and per dimension."""
    rows = [
        (float(t), *(float(v) for v in (g.mean(), g.min(), g.max(), g.std(), s.mean())))
        for t, g, s in zip(found.times, found.gamma, found.spread, strict=True)
    ]
    of_pixels = ("gamma_mean", "lowest_pixel", "highest_pixel", "deviation_over_pixels")
    columns = ("t", *of_pixels, "deviation_over_images")
    bits, num_dims = found.auxiliary_bits, found.half_way.size
    error = float(bits.std(ddof=1)) / np.sqrt(len(bits))
    cells = (len(bits), float(bits.mean()), error, float(bits.mean()) / num_dims, error / num_dims)
    names = ("images", "bits_per_image", "standard_error", "bits_per_dim", "standard_error_per_dim")
    return {"gamma": Table(columns, rows), "auxiliary": Table(names, [cells])}


def write(out: Path, found: NoiseMaps, facts: str) -> Path:
    """index.html, figures, tables and maps.npz; returns the page."""
    tables = all_tables(found)
    drawings: dict[str, Drawing] = {
        "gamma": functools.partial(_draw_maps, found.times, found.gamma, "viridis"),
        "order": functools.partial(_draw_maps, ["half way"], found.half_way[None], "magma"),
    }
    if found.auxiliary_bits.any():
        drawings["spread"] = functools.partial(_draw_maps, found.times, found.spread, "viridis")
        drawings["auxiliary"] = functools.partial(_draw_bits, found.auxiliary_bits)
    figures = page.render(drawings)
    write_arrays(out / "maps.npz", dataclasses.asdict(found))
    parts = [page.paragraph(facts, "facts")]
    for name, kinds in figures.items():
        contents = [page.picture(kinds["png"], _CAPTIONS[name])]
        contents += [to_html(tables[name])] if name in tables else []
        parts.append(page.section(_CAPTIONS[name], *contents))
    document = page.document("Noise per pixel", parts)
    return page.write(out, document, tables, figures, facts, tables)


def _draw_maps(titles, maps: np.ndarray, colours: str) -> Figure:
    """A panel per map [F,H,W,C], the mean over channels, on a scale of its own."""
    size = (2.6 * len(maps) + 0.6, 2.6)
    figure, panels = plt.subplots(1, len(maps), figsize=size, layout="constrained", squeeze=False)
    for axes, title, values in zip(panels[0], titles, maps.mean(axis=-1), strict=True):
        image = axes.imshow(values, cmap=colours)
        axes.set(title=title if isinstance(title, str) else f"t = {title:g}", xticks=[], yticks=[])
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _draw_bits(bits: np.ndarray) -> Figure:
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.hist(bits, bins=30)
    axes.axvline(bits.mean(), color="black", linestyle=":")
    axes.set(xlabel="KL(q(c|x) ‖ p(c)), bits per image", ylabel="images")
    return figure
