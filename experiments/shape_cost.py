"""The former name of `experiments.benchmarks.shape_cost`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("shape_cost", "benchmarks.shape_cost")
