"""Variational diffusion models with learned noise schedules.

The data flow, one stage a line (each imports only from those above it):

    data         sources -> one memory-mapped integer array + a DataSpec -> batches by step number
    schedules    t -> gamma(t) = -log SNR(t)
    contexts     what a schedule may know of an image: q(c|x), p(c), the price
    diffusion    Gaussian algebra of q(z_t|x), q(z_s|z_t,x), p(z_s|z_t)
    decoder      integers <-> [-1, 1], and p(x|z_0)
    denoisers    (z_t, gamma_t, conditioning) -> prediction
    model, elbo  the terms of the bound, per example, in nats
    objective    what the parameters minimise; train/ runs it, checkpoint saves it
    likelihood   further bounds on -log p(x), one file each, and one table of several
    evaluate     parameters + images -> bits/dim per term, with errors
"""

__version__ = "0.1.0"
