"""Variational diffusion models with learned noise schedules.

The data flow, one stage a line (each imports only from those above it):

    types, errors, seeds  records that stages exchange, exit codes, random streams
    runtime               devices, processes, files, hashes
    data                  sources -> one memory-mapped integer array + a DataSpec -> batches by number
    schedules             t -> gamma(t) = -log SNR(t)
    diffusion             Gaussian algebra of q(z_t|x), q(z_s|z_t,x), p(z_s|z_t)
    distributions         integers <-> [-1, 1] and p(x|z_0); contexts q(c|x), p(c) with their KL
    networks              (z_t, gamma_t, known) -> prediction
    models                families behind the contract of base.py: terms of the bound, noise, gradient
    training              optimizer, state, step, loop, checkpoints
    samplers              noise -> images
    evaluation            parameters + images -> bits/dim per term, with errors; bounds, analyses
    plots                 evaluations, runs and schedules -> figures on given axes
    runs                  a configuration and its parts; work folders, records, provenance
"""

__version__ = "0.1.0"
