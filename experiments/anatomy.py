"""The former name of `experiments.breakdown`, for one release.

Every flag is passed on, and a line on standard error names the new launcher; results are the same.
"""

from experiments.cli.forward import forward

if __name__ == "__main__":
    forward("anatomy", "breakdown")
