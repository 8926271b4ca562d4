"""Every field of a configuration, with its default, unit and reason.

configs/base.py makes a configuration of them, and the other files there change only what differs.
Fields that hold None decide for themselves. Override any of them on the command line:
--config=configs/digits.py --config.train.num_steps=500
"""

from typing import Any


def default_config() -> dict[str, Any]:
    """The configuration of defaults: it names no data set of its own and is not meant to be run."""
    return {
        # Of parameters, batches, times, noise and dropout.
        "seed": 0,
        "data": data(),
        "model": {
            # The model family, a key of vdm.models.FAMILIES.
            "family": "vdm",
            # What the network's output means: eps, x, v or score.
            "parameterisation": "eps",
            # "expected" takes E[-log p(x|z_0)] exactly; "sampled" draws z_0, as the paper did.
            "reconstruction": "expected",
            # With a gamma per pixel the network sees its "map", and the context; or the "mean"
            # alone, as MuLAN's does, and then its bound depends on the path of gamma.
            "gamma_input": "map",
        },
        "schedule": schedule(),
        "context": context(),
        "denoiser": denoiser(),
        "objective": objective(),
        "optimizer": optimizer(),
        "devices": devices(),
        "train": train(),
        "evaluate": evaluate(),
    }


def data() -> dict[str, Any]:
    """Where images come from; a source's own options lie under its name."""
    return {
        # digits, arrays:FILE, folder:PATH, tfds:BUILDER, or a published set; see docs/guide/data.md.
        "name": "digits",
        # Prepared arrays; None = $VDM_DATA_DIR or ~/.cache/vdm/data.
        "cache_dir": None,
        # A folder with a published set's archives or files; None = TensorFlow Datasets downloads it.
        "source_dir": None,
        # Kept per channel, 1..16, as Glow does: floor(code / 2^(stored - bits)); None = all.
        "bits": None,
        # Images held out of train where a set has no validation split; None = 1000, or 5 % if fewer.
        "num_validation": None,
        # Each with probability 1/2 per training image; the network is told, evaluation has none.
        "augment": {"flip": False, "rotate": False, "permute_channels": False},
        "digits": {},
        "arrays": {
            # A .npz with arrays train, test and perhaps validation, or one .npy.
            "path": "",
            # Codes per channel, 2..65536; None = what uint8 or uint16 implies.
            "num_levels": None,
        },
        # A folder, tar or zip of images; crop and size as below. splits: "auto" takes train/, test/ and
        # the like for splits; with "none" every folder is a class, and all images are split by hash.
        "folder": {"path": "", "splits": "auto", **resize()},
        # Any image builder of TensorFlow Datasets, such as "omniglot".
        "tfds": {"builder": "", **resize()},
        "celeb_a": resize(),
    }


def resize() -> dict[str, Any]:
    """What is done to images that are not all of the size wanted, in pixels."""
    return {
        # Side of the central square that is cut out; 0 = none.
        "crop": 0,
        # Side that the square image is resized to; 0 = not resized.
        "size": 0,
        # box, bilinear, bicubic or lanczos, anti-aliased.
        "filter": "lanczos",
    }


def schedule() -> dict[str, Any]:
    """gamma(t) = -log SNR(t), from gamma_0 at t = 0 to gamma_1 at t = 1."""
    return {
        "name": "learned_linear",
        # None = -13.3 + 2 ln(256 / levels): as sharp per level as the paper's -13.3 at 256.
        "gamma_0": None,
        # None = 5: the prior term costs .0015 bits/dim.
        "gamma_1": None,
        "linear": {},
        "learned_linear": {},
        "monotone_network": {"num_features": 1024, "learned_endpoints": True},
        "piecewise_linear": knots(),
        "rational_spline": knots(),
        # own_endpoints: the schedule's own truncation instead of gamma_0 and gamma_1.
        "cosine": {"own_endpoints": False},
        # discrete: through DDPM's thousand steps; otherwise their continuous limit.
        "ddpm_beta_linear": {"discrete": True, "own_endpoints": False},
        # Part of the logistic function that is used.
        "sigmoid": {"start": -3.0, "end": 3.0, "own_endpoints": False},
        # Of ln sigma.
        "edm": {"mean": -1.2, "deviation": 1.2, "own_endpoints": False},
        # A gamma per pixel; the conditional ones need a context.
        "pixel_polynomial": per_pixel(),
        "pixel_network": {**per_pixel(), "num_features": 8},
        # num_hidden: features between the context and what it does to the schedule.
        "conditional_polynomial": {**per_pixel(), "num_hidden": 64},
        "conditional_network": {**per_pixel(), "num_features": 8, "num_hidden": 64},
    }


def per_pixel() -> dict[str, Any]:
    """A schedule for every dimension; all start on the line, or near it."""
    return {
        # "pixel": one for each of H W C dimensions; "channel": one per channel; "low_rank" between.
        "sharing": "pixel",
        # Of low_rank alone.
        "rank": 4,
        # The same two for all dimensions, so that reconstruction and prior stay exact.
        "learned_endpoints": True,
    }


def context() -> dict[str, Any]:
    """What a conditional schedule knows of each image, charged as the bound's auxiliary term."""
    return {
        # none, gaussian or categorical; a schedule that is not conditional takes none.
        "name": "none",
        # Numbers, standard normal a priori.
        "gaussian": {"num_features": 8},
        # Variables, uniform over classes a priori; the temperature of their relaxation in training.
        "categorical": {"num_variables": 8, "num_classes": 2, "temperature": 0.5},
        # Of two convolutions, and of the dense layer after them.
        "encoder": {"channels": 16, "num_hidden": 64},
    }


def knots() -> dict[str, Any]:
    """A schedule piece by piece; times and shares of the way lie strictly between 0 and 1."""
    return {
        # Inner ones, evenly spaced on the straight line unless placed by the next two.
        "num_knots": 16,
        "times": None,
        "shares": None,
        "learned": True,
        "learned_endpoints": True,
    }


def objective() -> dict[str, Any]:
    """What is minimised; bits/dim is the ELBO whatever it is."""
    return {
        # T of the bound that is trained; 0 = continuous time.
        "num_timesteps": 0,
        # What the shape of a learned schedule minimises: "variance" of the bound, in continuous time
        # alone, or the bound, "elbo". None = variance in continuous time, elbo for T steps, and elbo
        # with a gamma per pixel.
        "shape": None,
        # Of the denoiser's loss, a function of gamma; see vdm/models/vdm/weights.py, which says what is
        # a bound.
        "weight": {
            "name": "elbo",
            "elbo": {},
            "l_simple": {},
            "edm": {"mean": -1.2, "deviation": 1.2, "sigma_data": 0.5},
            "sigmoid": {"bias": 2.0},
            "truncated": {"gamma_min": -5.0},
        },
        # "uniform", or "adaptive": drawn where the loss is large, and weighted to the same expectation.
        "times": "uniform",
    }


def denoiser() -> dict[str, Any]:
    """The network; only the options under its name count."""
    # float32 or bfloat16, inside the network only; bfloat16 gains nothing on a CPU.
    dtype = "float32"
    return {
        "name": "unet",
        "unet": {
            "channels": 128,
            # Residual blocks going in; one more comes out, and two lie between.
            "num_blocks": 32,
            # Exponents n of the Fourier features sin, cos(2 pi 2^n z); None = log2(levels/2) - 1, - 0.
            "fourier_exponents": None,
            # Of the group norms; None = as many, up to 32, as leave 4 channels in each.
            "num_groups": None,
            "dropout": 0.1,
            # Self-attention after every block; without it, only in the middle.
            "attention": False,
            "dtype": dtype,
            # Write identical blocks out instead of looping; None = for a shallow network on a CPU.
            "unroll": None,
            # Compute each block again in the backward pass: less memory for a third more work.
            "remat": False,
        },
        "mlp": {
            "width": 256,
            "num_blocks": 4,
            "fourier_exponents": None,
            "dropout": 0.0,
            "dtype": dtype,
        },
    }


def optimizer() -> dict[str, Any]:
    """AdamW per parameter group (denoiser, schedule, encoder of a context)."""
    return {
        "learning_rate": 2e-4,
        # The schedule has few parameters and a gradient of another size.
        "schedule_learning_rate": 2e-4,
        # Of a learned schedule's shape alone; None = the schedule's.
        "shape_learning_rate": None,
        "warmup_steps": 100,
        # Of the learning rate after the warm-up, over num_steps: constant, linear or cosine.
        "decay": "constant",
        "b1": 0.9,
        "b2": 0.99,
        "eps": 1e-8,
        # Of the encoder of a context; None = the network's.
        "encoder_learning_rate": None,
        # On kernels only; never on schedules, biases or norms.
        "weight_decay": 0.01,
        # Largest global norm of a group's gradient, in bits/dim per unit of parameter; 0 = any.
        "clip_norm": 1.0,
        "schedule_clip_norm": 1.0,
        # Of the averaged parameters that evaluation uses; smaller in the first steps.
        "ema_decay": 0.9999,
    }


def devices() -> dict[str, Any]:
    """What a run is laid over; changes no number beyond rounding."""
    return {
        # None = all that there are, of all processes.
        "num_devices": None,
        # Devices that share one copy of parameters, optimizer state and averages; 1 = a copy on each.
        "parameter_shards": 1,
    }


def train() -> dict[str, Any]:
    """The loop. Periods in steps; 0 = only at the end."""
    return {
        "num_steps": 10_000,
        # Images per step over all devices; a multiple of their number.
        "batch_size": 128,
        # Parts that a batch is taken in, one after another, to save memory; the update is the same.
        "num_microbatches": 1,
        # Steps that the device makes without asking the host; divides all periods. Not on a CPU.
        "steps_per_call": 1,
        "log_every_steps": 100,
        # Evaluates the validation split, one randomisation.
        "evaluate_every_steps": 1000,
        "save_every_steps": 1000,
        # Grids of so many samples in so many steps; 0 samples = none.
        "sample_every_steps": 0,
        "num_samples": 0,
        "num_sample_steps": 100,
        # The newest checkpoints kept, and the best by validation bits/dim kept besides.
        "keep_latest": 3,
        "keep_best": 1,
        # Where metrics go: json_lines, tensorboard, wandb (needs its package and an account).
        "writers": ("json_lines", "tensorboard"),
    }


def evaluate() -> dict[str, Any]:
    """How the bound is estimated when training ends, and by default later."""
    return {
        "split": "test",
        # T of the bound that is evaluated; 0 = continuous time. None = as trained.
        "num_timesteps": None,
        "batch_size": 128,
        # Times per image in one randomisation; 12 leave the digits an error below .005 bits/dim.
        "repeats": 12,
        # Independent ones; the Monte Carlo error comes from their scatter and needs at least 2.
        "randomisations": 8,
        # Of times and noise.
        "seed": 0,
    }


KINDS = {
    "data.arrays.num_levels": int,
    "data.bits": int,
    "data.cache_dir": str,
    "data.num_validation": int,
    "data.source_dir": str,
    "denoiser.mlp.fourier_exponents": tuple,
    "denoiser.unet.fourier_exponents": tuple,
    "denoiser.unet.num_groups": int,
    "denoiser.unet.unroll": bool,
    "devices.num_devices": int,
    "evaluate.num_timesteps": int,
    "objective.shape": str,
    "optimizer.encoder_learning_rate": float,
    "optimizer.shape_learning_rate": float,
    "schedule.gamma_0": float,
    "schedule.gamma_1": float,
    "schedule.piecewise_linear.shares": tuple,
    "schedule.piecewise_linear.times": tuple,
    "schedule.rational_spline.shares": tuple,
    "schedule.rational_spline.times": tuple,
}
"""What a field that is None by default holds otherwise."""
