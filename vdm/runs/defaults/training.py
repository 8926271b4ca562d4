"""Defaults of sections "objective", "optimizer", "devices", "train" and "evaluate"."""

from typing import Any


def objective() -> dict[str, Any]:
    """Return the loss that is minimised; bits/dim are those of the ELBO whatever it is."""
    return {
        # T of the bound that is trained; 0 = continuous time.
        "num_timesteps": 0,
        # Loss of a learned schedule's interior, the part between its end points: "variance" of the
        # bound, in continuous time alone, or the bound, "elbo". None = variance in continuous time,
        # elbo for T steps, and elbo with a gamma per pixel.
        "interior_loss": None,
        # Weight of the denoiser's loss, a function of gamma; vdm/models/vdm/weights.py says which ones
        # give a bound.
        "weight": {
            "name": "elbo",
            "elbo": {},
            "l_simple": {},
            "edm": {"mean": -1.2, "deviation": 1.2, "sigma_data": 0.5},
            "sigmoid": {"bias": 2.0},
            "truncated": {"gamma_min": -5.0},
        },
        # Density of times: "uniform", or "adaptive": drawn where the loss is large, and
        # weighted to the same expectation.
        "times": "uniform",
    }


def optimizer() -> dict[str, Any]:
    """Return AdamW per parameter group (denoiser, schedule, encoder of a context)."""
    return {
        "learning_rate": 2e-4,
        # The schedule has few parameters and a gradient of another size.
        "schedule_learning_rate": 2e-4,
        # Learning rate of a learned schedule's interior alone; None = the schedule's.
        "interior_learning_rate": None,
        # Steps in which the learning rates rise from 0.
        "warmup_steps": 100,
        # Decay of the learning rates after the warm-up, over num_steps: constant, linear or cosine.
        "decay": "constant",
        "b1": 0.9,
        "b2": 0.99,
        "eps": 1e-8,
        # Learning rate of the encoder of a context; None = the network's.
        "encoder_learning_rate": None,
        # Decoupled weight decay, on kernels only; never on schedules, biases or norms.
        "weight_decay": 0.01,
        # Largest global norm of a group's gradient, in bits/dim per unit of parameter; 0 = any.
        "clip_norm": 1.0,
        "schedule_clip_norm": 1.0,
        # Decay per step of the averaged parameters that evaluation uses; smaller in the first steps.
        "ema_decay": 0.9999,
    }


def devices() -> dict[str, Any]:
    """Return the devices over which a run is split; they change results only by rounding."""
    return {
        # Number of devices; None = all that there are, of all processes.
        "num_devices": None,
        # Devices that share one copy of parameters, optimizer state and averages; 1 = a copy on each.
        "parameter_shards": 1,
    }


def train() -> dict[str, Any]:
    """Return the training loop's settings. Periods are in steps; 0 = only at the end."""
    return {
        "num_steps": 10_000,
        # Images per step over all devices; a multiple of their number.
        "batch_size": 128,
        # Parts that a batch is taken in, one after another, to save memory; the update is the same.
        "num_microbatches": 1,
        # Steps that the device makes without asking the host; divides all periods. Not on a CPU.
        "steps_per_call": 1,
        # Steps in a row whose update may be skipped because a gradient is not finite, before the run
        # ends with exit code 4.
        "max_skipped_steps": 5,
        "log_every_steps": 100,
        # Evaluates the validation split, one randomisation.
        "evaluate_every_steps": 1000,
        "save_every_steps": 1000,
        # Grids of num_samples images, each drawn in num_sample_steps steps; 0 samples = none.
        "sample_every_steps": 0,
        "num_samples": 0,
        "num_sample_steps": 100,
        # The newest checkpoints kept, and the best by validation bits/dim kept besides.
        "keep_latest": 3,
        "keep_best": 1,
        # Seconds without a new step after which a hanging run writes its stacks and ends (75), and at
        # least 20 steps of usual length; 0 = never.
        "watchdog_seconds": 600,
        # Writers of metrics: json_lines, tensorboard, wandb (needs its package and an account).
        "writers": ("json_lines", "tensorboard"),
    }


def evaluate() -> dict[str, Any]:
    """Return the estimation of the bound when training ends, and by default later."""
    return {
        # train, validation or test.
        "split": "test",
        # T of the bound that is evaluated; 0 = continuous time. None = as trained.
        "num_timesteps": None,
        "batch_size": 128,
        # Times per image in one randomisation; 12 leave the digits an error below .005 bits/dim.
        "repeats": 12,
        # Independent randomisations; the Monte Carlo error comes from their scatter and needs at least
        # two.
        "randomisations": 8,
        # Seed of times and noise.
        "seed": 0,
    }
