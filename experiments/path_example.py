"""The former name of `experiments.studies.two_pixels`, for one release."""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("path_example", "studies.two_pixels")
