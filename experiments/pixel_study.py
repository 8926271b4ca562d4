"""The former name of `experiments.studies.per_pixel`, for one release.

Every flag is passed on, and a line on standard error names the new launcher; results are the same.
"""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("pixel_study", "studies.per_pixel")
