"""The digits with DDPM as published: linear betas, L_simple, T = 1000, and the ELBO of what it learns.

python -m experiments.train --config=configs/digits_ddpm.py --workdir=runs/digits_ddpm

DDPM's T = 1000 counts the step from x_1 to the image; here that step is the reconstruction term, x_1 is
z_0, and 999 steps lie between z_0 and z_1. gamma_0 = -9.21, gamma_1 = 10.12 are DDPM's own. The table
is the breakdown of the ELBO at T = 999; the loss that is trained is logged as weighted_loss.

Cost: as configs/digits.py.
Expected: 2.90 bits/dim (one seed; standard error .21, of which Monte Carlo .17 from 8 evaluations per
image), all of it denoising matching: L_simple is no bound, and linear betas draw few times where the
bound is large.
"""

from configs import digits


def get_config():
    """`configs/digits.py` with DDPM's schedule, weight and number of steps."""
    config = digits.get_config()
    config.schedule.name = "ddpm_beta_linear"
    config.schedule.ddpm_beta_linear.own_endpoints = True
    config.objective.num_timesteps = 999
    config.objective.weight.name = "l_simple"
    return config
