"""The names that people give to train, validation and test, in folders, files and builders.

A name is cut into words, in any case: "Val2017" gives val, "test-images" test and images, "trainB"
train and b. It *names* a split if one of its words does and the others say nothing (set, images, a
number); it *mentions* one if there are further words, or several splits: "cats_test", "trainA",
"trainval".
"""

import functools
import re
from collections.abc import Iterable

from vdm.errors import DataError

SPLITS = ("train", "validation", "test")
_SYNONYMS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _SYNONYMS.items() for word in words}
_UNLABELLED = ("unlabelled", "unlabeled", "unlabel", "unsupervised", "unsup", "extra", "extras")
_SAY_NOTHING = (
    *("set", "sets", "data", "dataset", "split", "splits", "folder", "part", "sample", "samples"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos"),
    *("x", "px", "png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"),
)
"""Words that do not change which split a name means."""
_KNOWN = sorted({*_SPLIT_OF, *_UNLABELLED, *_SAY_NOTHING}, key=len, reverse=True)
"""All words that are recognised when they are run together, the longest first."""
_RUN_TOGETHER = re.compile(rf"(?:{'|'.join(_KNOWN)})+")
_ONE_KNOWN = re.compile("|".join(_KNOWN))
_CAPITALS = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Places before a capital at which a word starts, as in "trainB" and "PNGImages"."""


def split_of(name: str) -> str | None:
    """Return the split that `name` names: "train", "validation", "test", or None."""
    splits, others = _sort(name)
    return splits[0] if len(splits) == 1 and not others else None


def splits_in(name: str) -> frozenset[str]:
    """Return the splits that `name` mentions, whatever its other words are."""
    return frozenset(_sort(name)[0])


def is_split_alone(name: str) -> bool:
    """Return whether `name` is a split's word and nothing else."""
    return name.lower() in _SPLIT_OF


def is_unlabelled(name: str) -> bool:
    """Return whether `name` is that of images beside the splits, such as "unlabeled" or "extra"."""
    splits, others = _sort(name)
    return not splits and bool(others) and set(others) <= set(_UNLABELLED)


def split_of_file(stem: str) -> str | None:
    """Return the split that a file's name begins or ends with, as in "test_001" and "001-test"."""
    splits = [_SPLIT_OF.get(word) for word in _words(stem)]
    return (splits[0] or splits[-1]) if splits else None


def match_splits(names: Iterable[str], where: str) -> tuple[dict[str, str], list[str]]:
    """Return the splits that a publisher named, and the names of no split.

    Where several name one split, "test" goes before "test2017".

    Args:
      names: names of a builder's splits.
      where: name of the builder, which opens the message.

    Returns:
      {split: its name among `names`}, and the names that are no split's.

    Raises:
      DataError: no training images, or one split under two names.
    """
    names = list(names)
    name_of: dict[str, str] = {}

    # A name that is the bare word wins; two names that are equally good are not chosen between.
    for split in SPLITS:
        named = [name for name in names if split_of(name) == split]
        chosen = [name for name in named if is_split_alone(name)] or named
        if len(chosen) > 1:
            raise DataError(
                f"{where}: its splits {' and '.join(chosen)} could both be {split}; "
                "store the one wanted as a folder or an .npz (data.name=folder, arrays)"
            )
        if chosen:
            name_of[split] = chosen[0]

    # Without test or validation images some of train are held out; without train nothing can be.
    if "train" not in name_of:
        listed = ", ".join(names) or "none"
        raise DataError(f"{where}: has no training images (its splits: {listed})")
    return name_of, [name for name in names if name not in name_of.values()]


@functools.lru_cache(maxsize=2**14)
def _sort(name: str) -> tuple[list[str], list[str]]:
    """Return (splits that words of `name` mean, other words without those of _SAY_NOTHING)."""
    words = _words(name)
    splits = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    return splits, [word for word in words if word not in _SPLIT_OF and word not in _SAY_NOTHING]


def _words(name: str) -> list[str]:
    """Return the lower-case words of a name, split at punctuation, digits and capitals."""
    words: list[str] = []
    for run in re.split(r"[\W\d_]+", name):
        # "TESTimages" and "trainset", before capitals cut anything.
        pieces = [run] if _RUN_TOGETHER.fullmatch(run.lower()) else _CAPITALS.split(run)
        for piece in filter(None, pieces):
            words += _cut(piece.lower())
    return words


def _cut(word: str) -> list[str]:
    """Return the known words of which `word` is composed without a separator; [word] for any other."""
    if not _RUN_TOGETHER.fullmatch(word) or word in _KNOWN:
        return [word]
    return _ONE_KNOWN.findall(word)
