"""The former name of `experiments.studies.schedules`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("study", "studies.schedules")
