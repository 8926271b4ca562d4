"""The former name of `experiments.breakdown`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("anatomy", "breakdown")
