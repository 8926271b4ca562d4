"""Configuration files under their former names, which go with the next release."""

import sys
from collections.abc import Sequence
from pathlib import Path

FORMER = {
    "configs/cifar10_aug.py": "configs/cifar10.py:aug",
    "configs/cifar10_mulan.py": "configs/cifar10.py:mulan",
    "configs/cifar10_small.py": "configs/cifar10.py:small",
    "configs/cifar10_small.py:cpu": "configs/cifar10.py:small",
    "configs/cifar10_small.py:gpu": "configs/cifar10.py:small_gpu",
    "configs/digits_adaptive.py": "configs/digits.py:adaptive",
    "configs/digits_conditional.py": "configs/digits.py:conditional",
    "configs/digits_cosine.py": "configs/digits.py:cosine",
    "configs/digits_ddpm.py": "configs/digits.py:ddpm",
    "configs/digits_discrete.py": "configs/digits.py:discrete",
    "configs/digits_learned.py": "configs/digits.py:learned",
    "configs/digits_linear.py": "configs/digits.py:linear",
    "configs/digits_per_pixel.py": "configs/digits.py:per_pixel",
    "configs/digits_spline.py": "configs/digits.py:spline",
    "configs/digits_study.py": "configs/digits.py:study",
    "configs/fashion_mnist.py": "configs/mnist.py:fashion",
    "configs/fashion_mnist.py:cpu": "configs/mnist.py:fashion",
    "configs/fashion_mnist.py:gpu": "configs/mnist.py:fashion_gpu",
    "configs/imagenet32.py": "configs/imagenet.py:32",
    "configs/imagenet64.py": "configs/imagenet.py:64",
    "configs/mnist.py:cpu": "configs/mnist.py",
}
"""{former value of --config: its value now}."""


def present_name(path: str) -> str:
    """Return the present name of a configuration; a former one is reported in a line on stderr."""
    present = FORMER.get(path.removeprefix("./"), path)
    file, present_file = (name.partition(":")[0] for name in (path, present))
    # A user's own file of that name is what is meant, where there is one.
    if present == path or (file != present_file and Path(file).is_file()):
        return path
    line = f"{path} is now {present}; the former name goes with the next release"
    print(line, file=sys.stderr, flush=True)
    return present


def present_words(argv: Sequence[str]) -> list[str]:
    """Return a command line whose --config has its present name, as `present_name` gives it."""
    words = list(argv)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in ("--config", "-config"):
            continue
        if equals:
            words[i] = f"{name}={present_name(value)}"
        elif i + 1 < len(words):
            words[i + 1] = present_name(words[i + 1])
    return words
