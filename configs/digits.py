"""A VDM on scikit-learn's 8x8 digits: no download, minutes on a laptop.

python -m experiments.train --config=configs/digits.py --workdir=runs/digits
python -m experiments.train --config=configs/digits.py:learned --workdir=runs/digits_learned

The variants differ in their schedule, times or objective; VARIANTS has the cost and the expected
bits/dim on the 297 test images of each. The study of schedules (experiments.studies.schedules) varies
configs/digits.py:study.
"""

from ml_collections import config_dict

from configs import base
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS."""
    return make_variant("configs/digits.py", VARIANTS, variant)


def digits() -> config_dict.ConfigDict:
    """Return the paper's network, small, with a line between learned end points."""
    config = base.get_config()
    config.data.name = "digits"
    # 646,081 parameters, so that a run takes minutes on two CPU cores. Learning rate, batch size and
    # dropout were chosen on another split of the same images (docs/results.md).
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks = 64, 1
    unet.dropout = 0.0
    # Twenty times the paper's 2e-4: the run has 3000 steps, the paper's ten million.
    config.optimizer.learning_rate = 4e-3
    # The end points follow the network slowly: fast ones retreat from it while it is young, and the
    # decay leaves them there: at 4e-3 five seeds had 1.818 bits/dim, at this rate 1.789.
    config.optimizer.schedule_learning_rate = 4e-4
    config.optimizer.decay = "cosine"
    # The average reaches back 1/(1 - .995) = 200 steps; the paper's .9999 reaches back 10,000.
    config.optimizer.ema_decay = 0.995
    # 96,000 images, 69 passes over the 1,400 of the training split.
    config.train.num_steps = 3000
    config.train.batch_size = 32
    config.train.log_every_steps = 100
    config.train.evaluate_every_steps = 500
    config.train.save_every_steps = 500
    config.train.num_samples = 64
    # A third of the 297 test images, so that no batch is filled up.
    config.evaluate.batch_size = 99
    return config


def linear() -> config_dict.ConfigDict:
    """Return a fixed line from gamma = -7.88 to 5.

    -7.88 = -13.3 + 2 ln(256/17): the paper's -13.3 at 256 levels, as sharp at the digits' 17.
    """
    config = digits()
    config.schedule.name = "linear"
    return config


def cosine() -> config_dict.ConfigDict:
    """Return the cosine schedule (arXiv:2102.09672), cut to gamma in [-7.88, 5].

    The end points, and so the bound that a network can reach, are those of `linear`; the variance of
    its estimate is ten times as large after 400 steps (docs/guide/schedules.md).
    """
    config = digits()
    config.schedule.name = "cosine"
    return config


def learned() -> config_dict.ConfigDict:
    """Return the paper's monotone network between learned end points."""
    config = digits()
    config.schedule.name = "monotone_network"
    # The interior has a thousand weights, whose mean counts: each may move faster than an end point.
    config.optimizer.interior_learning_rate = 4e-3
    return config


def spline() -> config_dict.ConfigDict:
    """Return a monotone rational-quadratic spline (arXiv:1906.04032) as the interior of `learned`."""
    config = learned()
    config.schedule.name = "rational_spline"
    return config


def adaptive() -> config_dict.ConfigDict:
    """Return the fixed line with times drawn in proportion to the loss."""
    config = linear()
    # gamma stays as it is: a density of times takes the place of a learned interior, and weights 1/p
    # leave the bound's expectation unchanged.
    config.objective.times = "adaptive"
    return config


def ddpm() -> config_dict.ConfigDict:
    """Return DDPM as published (arXiv:2006.11239), measured by its ELBO.

    DDPM's T = 1000 counts the step from x_1 to the image; here that step is the reconstruction term,
    x_1 is z_0, and 999 steps lie between z_0 and z_1. gamma_0 = -9.21 and gamma_1 = 10.12 are DDPM's
    own. The table is the breakdown of the ELBO at T = 999; the loss that is trained is logged as
    weighted_loss.
    """
    config = digits()
    config.schedule.name = "ddpm_beta_linear"
    config.schedule.ddpm_beta_linear.own_endpoints = True
    config.objective.num_timesteps = 999
    config.objective.weight.name = "l_simple"
    return config


def discrete() -> config_dict.ConfigDict:
    """Return T = 1000 steps for training and evaluation in place of continuous time.

    L_T is the larger bound: on one run of the digits L_1000 - L_inf = .0107 bits/dim, by pairs of
    images (docs/guide/evaluation.md).
    """
    config = digits()
    config.objective.num_timesteps = 1000
    return config


def per_pixel() -> config_dict.ConfigDict:
    """Return 64 polynomials of degree 5 between fixed end points.

    The schedule minimises the bound, and the network sees the map of gamma.
    """
    config = digits()
    config.schedule.name = "pixel_polynomial"
    config.schedule.learned_endpoints = False
    # As in the study of docs/guide/schedules.md; not tuned.
    config.optimizer.interior_learning_rate = 4e-3
    return config


def conditional() -> config_dict.ConfigDict:
    """Return the polynomials of `per_pixel`, moved for every image by a context of 8 Gaussian numbers.

    What the context tells is charged as the auxiliary term; with --config.context.name=categorical it
    is 8 bits, which cost at most 8 ln 2 nats.
    """
    config = per_pixel()
    config.schedule.name = "conditional_polynomial"
    config.context.name = "gaussian"
    return config


def study() -> config_dict.ConfigDict:
    """Return few steps with fixed end points, equal for every schedule that is put in."""
    config = digits()
    config.schedule.name = "linear"
    config.schedule.learned_endpoints = False
    # Fixed end points cannot run away, and the interior has few steps.
    config.optimizer.interior_learning_rate = 2e-2
    config.optimizer.warmup_steps = 50
    # 9 passes over the training split, far from converged: what differs is how far the steps get under
    # each schedule. The study's 27 runs train for a quarter of an hour.
    config.train.num_steps = 400
    config.train.evaluate_every_steps = 0
    # The study compares final bounds alone: validations and samples would only add to its time.
    config.train.save_every_steps = 200
    config.train.keep_latest = 1
    config.train.num_samples = 0
    config.train.writers = ("json_lines",)
    return config


COST = "3000 steps of 32 images, 4 to 5 minutes on two CPU cores, 1.2 GB"
UNKNOWN = "after 400 steps see docs/guide/schedules.md; after 3000 not yet measured"
VARIANTS = {
    "": Variant(
        digits,
        "The paper's network, small, with a line between learned end points.",
        COST,
        "1.789 bits/dim, mean of five seeds (between-seed deviation .006)",
    ),
    "linear": Variant(
        linear,
        "A fixed line from gamma = -7.88 to 5: nothing of the schedule is learned.",
        COST,
        "1.786 bits/dim (one seed; standard error over images .026)",
    ),
    "cosine": Variant(
        cosine,
        "The cosine schedule, cut to gamma in [-7.88, 5].",
        COST,
        "1.95 bits/dim (one seed; standard error over images .08, most of it Monte Carlo: the cosine "
        "spends few of its times where the bits are)",
    ),
    "learned": Variant(
        learned,
        "The paper's monotone network as schedule: its interior lowers the bound's variance.",
        COST,
        "1.77 bits/dim (one seed; standard error over images .02)",
    ),
    "spline": Variant(
        spline,
        "A monotone rational spline of 16 knots between learned end points.",
        COST,
        "1.76 bits/dim (one seed; standard error over images .018)",
    ),
    "adaptive": Variant(
        adaptive,
        "A fixed line with times drawn where the loss is large, instead of a learned interior.",
        COST,
        "1.76 bits/dim (one seed; standard error over images .020)",
    ),
    "ddpm": Variant(
        ddpm,
        "DDPM as published: linear betas, L_simple, T = 1000, and the ELBO of what it learns.",
        COST,
        "2.90 bits/dim (one seed; standard error .21, of which Monte Carlo .17 from 8 evaluations per "
        "image), all of it denoising matching: L_simple is no bound, and linear betas draw few times "
        "where the bound is large",
    ),
    "discrete": Variant(
        discrete,
        "T = 1000 steps instead of continuous time.",
        COST,
        "1.790 bits/dim (one seed; standard error over images .026)",
    ),
    "per_pixel": Variant(
        per_pixel,
        "A schedule for every pixel, a polynomial of degree 5, between fixed end points.",
        COST,
        UNKNOWN,
    ),
    "conditional": Variant(
        conditional,
        "A schedule for every pixel that depends on the image, through 8 Gaussian numbers.",
        COST,
        UNKNOWN,
    ),
    "study": Variant(
        study,
        "Fixed, equal end points and few steps: what the study of schedules varies.",
        "400 steps of 32 images, at most 45 seconds on two idle CPU cores",
        "2.32 bits/dim with the line, 2.24 with a rational spline (one seed each): far from converged, "
        "so that only the order of schedules is of interest",
    ),
}
"""The variants by what follows the colon."""
