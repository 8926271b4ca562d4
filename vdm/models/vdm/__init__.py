"""The variational diffusion model (Kingma et al. 2021, arXiv:2107.00630): terms, noise, objective."""
