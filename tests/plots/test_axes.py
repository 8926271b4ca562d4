"""Contents of each figure's axes, read back from them, for data made up here."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from vdm import plots
from vdm.evaluation.analysis.noise_levels import Band, Profile
from vdm.evaluation.statistics.between_seeds import between_seeds
from vdm.evaluation.statistics.estimate import Estimate
from vdm.evaluation.statistics.jackknife import Interval
from vdm.plots.images import codes_to_bytes, tile_images
from vdm.types import TERM_NAMES

EDGES = np.array([-2.0, 0.0, 1.0])
PROFILE = Profile(EDGES, np.array([1.0, 3.0]), np.full(2, 0.1), np.full(2, 0.2), np.full(2, 0.5))


@pytest.fixture
def axes():
    """Axes of a figure that pyplot does not know: nothing may rely on a current figure."""
    return Figure().add_subplot()


def data_of(axes):
    return [line.get_xydata().tolist() for line in axes.lines]


def reach_of(collection):
    """((x from, x to), (y from, y to)) of a band or an area."""
    points = np.concatenate([path.vertices for path in collection.get_paths()])
    return tuple(zip(points.min(axis=0).tolist(), points.max(axis=0).tolist(), strict=True))


def test_terms_are_stacked_from_zero_and_carry_the_interval_of_their_total(axes):
    def row(*means):
        terms = {n: {"mean": m, "interval": None} for n, m in zip(TERM_NAMES, means, strict=True)}
        return terms | {"total": {"mean": sum(means), "interval": (sum(means) - 1, sum(means) + 1)}}

    alone = row(1.0, 0.0, 2.0, 0.0)
    alone["total"]["interval"] = None  # as of a single image
    plots.plot_terms(axes, {"one": row(0.5, 1.5, 3.0, 0.0), "two": alone})
    bars = [(b.get_x(), b.get_x() + b.get_width()) for c in axes.containers for b in c]
    assert bars == [(0, 0.5), (0, 1), (0.5, 2), (1, 1), (2, 5), (1, 3)]
    assert data_of(axes) == [[[4, 0], [6, 0]]]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["reconstruction", "prior matching", "denoising matching"]


def test_a_profile_is_a_step_per_bin_within_its_bands(axes):
    plots.plot_profile(axes, PROFILE, "run", all_at_once=True)
    assert data_of(axes) == [[[-2, 1], [0, 3], [1, 3]]]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    pointwise, simultaneous = (reach_of(c) for c in axes.collections)
    assert pointwise == ((-2, 1), (pytest.approx(0.8), pytest.approx(3.2)))
    assert simultaneous == ((-2, 1), (0.5, 3.5))


@pytest.mark.parametrize("interval", [(0.1, 0.9), (-0.1, 0.9)])
def test_a_band_is_hatched_unless_its_interval_excludes_zero(axes, interval):
    band = Band(low=-2.0, high=0.0, part=0.5, interval=interval, whole=0.6)
    plots.plot_profile_difference(axes, PROFILE, band, "two − one")
    (span,) = axes.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (-2, 0)
    assert bool(span.get_hatch()) == (interval[0] < 0)
    assert data_of(axes)[1] == [[0, 0], [1, 0]]  # the line of no difference


def test_estimates_are_points_on_their_intervals(axes):
    estimates = {0: Estimate(2.0, 0.1, 0.1, (1.5, 2.5)), 3: Estimate(4.0, None, None, None)}
    plots.plot_estimates(axes, estimates, total=3.0)
    assert data_of(axes) == [[[0, 1.5], [0, 2.5]], [[0, 2]], [[3, 4]], [[0, 3], [1, 3]]]
    assert axes.get_xticks().tolist() == [0, 3]


def test_bars_show_intervals_on_both_sides_and_none_below_zero_length(axes):
    # The second interval lies above its own value: no negative error bar.
    plots.plot_bars(axes, {"one": Interval(2.0, 1.0, 4.0), "two": Interval(1.0, 1.5, 2.0)})
    assert [bar.get_width() for bar in axes.patches] == [2, 1]
    (lines,) = axes.collections
    assert [s[:, 0].tolist() for s in lines.get_segments()] == [[1, 4], [1, 2]]


def test_seeds_of_a_group_lie_within_the_interval_of_the_next(axes):
    totals = {"linear": [1.0, 2.0, 3.0], "learned": [0.5, 0.6, 0.7]}
    between = {label: between_seeds(values) for label, values in totals.items()}
    plots.plot_between_seeds(axes, between, totals)
    next_seed, interval, seeds = data_of(axes)[:3]
    assert seeds == [[1, 0], [2, 0], [3, 0]]
    assert next_seed[0][0] < interval[0][0] < 2 < interval[1][0] < next_seed[1][0]
    assert axes.get_ylim() == (1.5, -0.5)  # the first group on top


def test_values_per_seed_have_a_row_per_variant(axes):
    values = {"linear": [1.0, 4.0], "cosine": [10.0]}
    means = {"linear": (2.0, (0.5, 8.0)), "cosine": (10.0, None)}
    plots.plot_values_per_seed(axes, values, means, logarithmic=True)
    assert data_of(axes) == [[[1, 0], [4, 0]], [[2, 0]], [[0.5, 0], [8, 0]], [[10, 1]], [[10, 1]]]
    assert axes.get_xscale() == "log"


def test_learning_leaves_the_first_steps_above_the_limits(axes):
    train = np.array([50.0, *np.linspace(4.0, 2.0, 19)])
    training = {"step": np.arange(20), "images": 8 * np.arange(20), "train": train}
    validation = {"step": np.array([2, 5]), "validation": np.array([3.5, 3.0])}
    plots.plot_learning(axes, {"run": training}, {"run": validation})
    line, points = data_of(axes)
    assert line == np.stack([training["images"], train], axis=1).tolist()
    assert points == [[16, 3.5], [40, 3]]  # at the images that their steps had seen
    low, high = axes.get_ylim()
    assert low == pytest.approx(0.98 * 2) and 4 < high < 50


def test_learning_without_validation_takes_any_amount(axes):
    training = {"step": np.arange(2), "seconds": np.array([3.0, 6.0]), "train": np.ones(2)}
    plots.plot_learning(axes, {"run": training}, amount="seconds")
    assert data_of(axes) == [[[3, 1], [6, 1]]]
    assert axes.get_legend_handles_labels()[1] == ["run"]


def test_schedules_before_are_dotted_and_only_those_after_are_named(axes):
    t, gamma = np.array([0.0, 1.0]), np.array([-5.0, 3.0])
    curves = {"run": {"t": t, "snr_before": np.exp(-gamma), "snr_after": np.exp(-gamma / 2)}}
    plots.plot_schedules(axes, curves | {"fixed": {"t": t, "snr_after": np.ones(2)}}, "snr")
    assert data_of(axes)[1] == [[0, np.exp(2.5)], [1, np.exp(-1.5)]]
    assert [line.get_linestyle() for line in axes.lines] == [":", "-", "-"]
    assert axes.get_legend_handles_labels()[1] == ["run", "fixed"] and axes.get_yscale() == "log"


def test_the_density_is_drawn_against_gamma(axes):
    gamma, density = np.array([-1.0, 2.0]), np.array([0.25, 0.5])
    plots.plot_gamma_density(axes, {"run": {"gamma_after": gamma, "density_after": density}})
    assert data_of(axes) == [[[-1, 0.25], [2, 0.5]]]


def test_drawn_gammas_are_a_median_between_bands(axes):
    shares = {"0.05": -4.0, "0.25": -2.0, "0.5": 0.0, "0.75": 1.0, "0.95": 3.0}
    curves = {"images": np.array([8, 16]), **{n: np.full(2, v) for n, v in shares.items()}}
    plots.plot_drawn_gammas(axes, curves)
    assert data_of(axes) == [[[8, 0], [16, 0]]]
    assert [reach_of(c) for c in axes.collections] == [((8, 16), (-4, 3)), ((8, 16), (-2, 1))]


def test_maps_share_the_colours_they_are_told_to(axes):
    values = np.arange(6.0).reshape(2, 3)
    plots.plot_map(axes, values, limits=(-10.0, 10.0))
    (image,) = axes.images
    assert image.get_array().tolist() == values.tolist() and image.get_clim() == (-10, 10)
    assert len(axes.figure.axes) == 2  # the colour bar


def test_the_context_s_divergence_counts_every_image(axes):
    bits = np.array([1.0, 1.0, 4.0])
    plots.plot_context_kl(axes, bits)
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert axes.lines[0].get_xdata() == [2, 2]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_an_image_of_any_number_of_channels(axes, channels):
    brightness = np.full((4, 6, channels), 40)
    plots.plot_image(axes, brightness, "1.79")
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn.shape == ((4, 6, 3) if channels == 3 else (4, 6)) and (drawn == 40).all()
    assert axes.get_title() == "1.79"


def test_a_sheet_holds_every_tile_once_at_its_place(axes):
    images = np.arange(5).reshape(5, 1, 1, 1) * np.ones((1, 16, 16, 1), int)
    plots.plot_images(axes, images, num_levels=5, num_columns=3)
    sheet = np.asarray(axes.images[0].get_array())
    assert sheet.shape == (2 * 34 + 2, 3 * 34 + 2)  # magnified twice, gaps of 2
    brightness = codes_to_bytes(np.arange(5), 5).tolist()
    assert brightness == [0, 64, 128, 191, 255]
    assert sheet[2 + 16, [2, 36, 70]].tolist() == brightness[:3]
    assert sheet[36 + 16, [2, 36]].tolist() == brightness[3:]


def test_channels_that_are_no_colours_stand_side_by_side():
    tiles = np.arange(2).reshape(1, 1, 1, 2) * np.full((1, 32, 32, 1), 200)
    sheet = tile_images(tiles, 1)[..., 0]
    assert sheet.shape == (36, 68) and sheet[10, [2, 40]].tolist() == [0, 200]


def test_curl_is_coloured_by_sign_under_the_paths(axes):
    gamma, straight = np.array([-1.0, 0.0, 1.0]), np.array([[-1.0, -1.0], [1.0, 1.0]])
    curl = np.array([[0.0, 1e-3, -1e-3]] * 3)
    plots.plot_curl(axes, gamma, curl, {"straight": straight})
    colours = np.asarray(axes.collections[0].get_array()).reshape(3, 3)[0]
    assert colours.tolist() == pytest.approx([0, np.arcsinh(1), -np.arcsinh(1)])
    assert data_of(axes) == [straight.tolist()]


def test_path_terms_leave_room_beside_the_longest_bar(axes):
    nats = {"posterior mean": {"a": 12.0, "b": 12.0}, "mean gamma": {"a": 12.0, "b": 16.0}}
    plots.plot_path_terms(axes, nats, mutual_information=12.0)
    assert [bar.get_width() for bar in axes.patches] == [12, 12, 12, 16]
    assert axes.get_xlim() == (0, 20) and axes.lines[0].get_xdata() == [12, 12]
