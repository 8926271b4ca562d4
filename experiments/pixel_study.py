"""The former name of `experiments.studies.per_pixel`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("pixel_study", "studies.per_pixel")
