"""The former name of `experiments.benchmarks.data`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("benchmark_data", "benchmarks.data")
