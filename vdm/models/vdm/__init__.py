"""The variational diffusion model: its terms, its noise and what it minimises."""
