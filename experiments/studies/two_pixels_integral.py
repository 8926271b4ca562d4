"""Denoising term of two Gaussian pixels as a line integral, for two denoisers and several paths.

With x ~ N(0, S), A = diag(alpha), B = diag(sigma) and an estimate eps_hat = K z,

    f_i(gamma) = 1/2 E(eps_i - eps_hat_i)^2 = 1/2 [I - K B - B K' + K (A S A + B^2) K']_ii,

and the term is int f . dgamma along a path (Sahoo et al. 2023, MuLAN, arXiv:2312.13236, sec. 3). The
posterior mean has K = B (A S A + B^2)^-1; a denoiser whose input has the mean of gamma alone has the
same K with both gammas equal to that mean.
"""

from collections.abc import Callable

import numpy as np

from experiments.reports.page import Figure, plt
from experiments.reports.tables import Table
from vdm.plots import plot_curl, plot_path_terms

COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])
"""Covariance S of the two pixels."""
ENDS = (-13.3, 5.0)
"""gamma of both pixels at t = 0 and t = 1."""
NUM_NODES = 400
"""Gauss-Legendre nodes per path; they reproduce the closed form to a relative 1e-5."""

Path2D = Callable[[np.ndarray], np.ndarray]
"""Function from times t [N] to the fractions of both pixels' ways between the end points [N,2]."""


def _power(one: float, other: float) -> Path2D:
    """Return the path (t^one, t^other)."""
    return lambda t: np.stack([t**one, t**other], axis=-1)


def _wave(t: np.ndarray) -> np.ndarray:
    """Path on which the first pixel is ahead in the first half and behind in the second."""
    bend = np.sin(2 * np.pi * t) / (2 * np.pi)
    return np.stack([t + 0.9 * bend, t - 0.9 * bend], axis=-1)


PATHS: dict[str, Path2D] = {
    "straight": _power(1.0, 1.0),
    "first pixel a little earlier": _power(0.9, 1.1),
    "first pixel earlier": _power(0.5, 2.0),
    "second pixel earlier": _power(2.0, 0.5),
    "first, then second": _wave,
}
DENOISERS = {"posterior mean": True, "told the mean of gamma": False}
"""{denoiser: whether its input has both gammas}."""


def field(gamma: np.ndarray, told_both: bool) -> np.ndarray:
    """Return f at gammas [N,2], the loss of either pixel in nats per unit of its gamma [N,2].

    Args:
      gamma: noise levels of both pixels [N,2].
      told_both: whether the denoiser's input has both gammas, or their mean.
    """
    # K follows from the gammas of the denoiser's input, the error from those of the noise.
    known = gamma if told_both else np.broadcast_to(gamma.mean(-1, keepdims=True), gamma.shape)
    _, known_sigma, known_covariance = _process(known)
    estimate = known_sigma @ np.linalg.inv(known_covariance)
    _, sigma, covariance = _process(gamma)
    cross = estimate @ sigma
    error = np.eye(2) - cross - np.swapaxes(cross, -1, -2)
    error = error + estimate @ covariance @ np.swapaxes(estimate, -1, -2)
    return 0.5 * np.einsum("nii->ni", error)


def integral(path: Path2D, told_both: bool) -> float:
    """Return int f . dgamma along a path, nats.

    Args:
      path: the path.
      told_both: see `field`.
    """
    # Gauss-Legendre in u with t = u^2 (3 - 2 u): dt/du vanishes at both ends, where a path may be
    # steep.
    points, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    u, weights = (points + 1) / 2, weights / 2
    t, dt = u * u * (3 - 2 * u), 6 * u * (1 - u)

    # Central differences, within [0, 1] however close t is to an end.
    step = 1e-6 * np.minimum(t, 1 - t)
    slope = (path(t + step) - path(t - step)) / (2 * step)[:, None]

    low, high = ENDS
    gamma = low + (high - low) * path(t)
    rate = np.sum(field(gamma, told_both) * (high - low) * slope, axis=-1)
    return float(np.sum(weights * dt * rate))


def closed_form() -> float:
    """Return I(x; z_0) - I(x; z_1), nats, the term of a posterior mean on any path.

    It is 1/2 ln det(I + S exp(-gamma_0)) - 1/2 ln det(I + S exp(-gamma_1)).
    """
    information = [np.linalg.slogdet(np.eye(2) + COVARIANCE * np.exp(-g))[1] for g in ENDS]
    return 0.5 * float(information[0] - information[1])


def curl(gamma: np.ndarray, told_both: bool) -> np.ndarray:
    """Return the curl df_2/dgamma_1 - df_1/dgamma_2 of the field [N].

    If it is 0 everywhere, the term does not depend on the path.

    Args:
      gamma: noise levels of both pixels [N,2].
      told_both: see `field`.
    """
    step = 1e-4
    derivative = lambda i, j: (  # noqa: E731
        field(gamma + step * np.eye(2)[j], told_both)[:, i]
        - field(gamma - step * np.eye(2)[j], told_both)[:, i]
    )
    return (derivative(1, 0) - derivative(0, 1)) / (2 * step)


def table() -> Table:
    """Return the denoising term, int f . dgamma in nats: a row per path, a column per denoiser."""
    rows = [
        (name, *(integral(path, both) for both in DENOISERS.values()))
        for name, path in PATHS.items()
    ]
    return Table(("path", *(name.replace(" ", "_") for name in DENOISERS)), rows)


def _process(gamma: np.ndarray):
    """Return (A, B, A S A + B^2), the last the covariance of z, as matrices [N,2,2]."""
    alpha, sigma = (1 / np.sqrt(1 + np.exp(sign * gamma)) for sign in (1, -1))
    alpha, sigma = (np.eye(2) * v[..., None] for v in (alpha, sigma))
    return alpha, sigma, alpha @ COVARIANCE @ alpha + sigma @ sigma


def draw() -> Figure:
    """Draw the paths over the curl of either denoiser's field, and the terms along each path."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    grid = np.linspace(*ENDS, 81)
    gamma = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    share = np.linspace(0, 1, 200)
    paths = {label: ENDS[0] + (ENDS[1] - ENDS[0]) * path(share) for label, path in PATHS.items()}
    for axes, (name, both) in zip(panels, DENOISERS.items(), strict=False):
        plot_curl(axes, grid, curl(gamma, both).reshape(81, 81), paths)
        axes.set_title(name)

    rows = table().rows
    nats = {name: {row[0]: row[1 + n] for row in rows} for n, name in enumerate(DENOISERS)}
    plot_path_terms(panels[2], nats, closed_form())

    # Outside the panels: it would cover the bars.
    figure.legend(*panels[2].get_legend_handles_labels(), loc="outside lower right", ncols=3)
    panels[0].legend(fontsize="x-small")
    return figure
