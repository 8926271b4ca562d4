"""The names that people give to train, validation and test, in folders, files and builders.

A name is cut into words, in any case: "Val2017" is val, "test-images" test images, "trainB" train b.
It *names* a split if one of them does and the others say nothing (set, images, a number); it *mentions*
one if there are further words, or several splits: "cats_test", "trainA", "trainval".
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
_KNOWN = sorted({*_SPLIT_OF, *_UNLABELLED, *_SAY_NOTHING}, key=len, reverse=True)
_RUN_TOGETHER = re.compile(rf"(?:{'|'.join(_KNOWN)})+")
_ONE_KNOWN = re.compile("|".join(_KNOWN))
_CAPITALS = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def split_of(name: str) -> str | None:
    """The split that `name` names: "train", "validation", "test", or None."""
    found, others = _sort(name)
    return found[0] if len(found) == 1 and not others else None


def splits_in(name: str) -> frozenset[str]:
    """The splits that `name` mentions, whatever its other words are."""
    return frozenset(_sort(name)[0])


def is_split_alone(name: str) -> bool:
    """Whether `name` is a split's word and nothing else."""
    return name.lower() in _SPLIT_OF


def is_unlabelled(name: str) -> bool:
    """Whether `name` is that of images beside the splits, such as "unlabeled" or "extra"."""
    found, others = _sort(name)
    return not found and bool(others) and set(others) <= set(_UNLABELLED)


def split_of_file(stem: str) -> str | None:
    """The split that a file's name begins or ends with, as in "test_001" and "001-test"."""
    found = [_SPLIT_OF.get(word) for word in _words(stem)]
    return (found[0] or found[-1]) if found else None


def match_splits(names: Iterable[str], where: str) -> tuple[dict[str, str], list[str]]:
    """({split: its name among `names`}, names of no split) of splits that a publisher named.

    Where several name one split, "test" goes before "test2017".

    Raises:
      DataError: no training images, or one split under two names.
    """
    names = list(names)
    found: dict[str, str] = {}
    for split in SPLITS:
        named = [name for name in names if split_of(name) == split]
        chosen = [name for name in named if is_split_alone(name)] or named
        if len(chosen) > 1:
            raise DataError(
                f"{where}: its splits {' and '.join(chosen)} could both be {split}; "
                "store the one wanted as a folder or an .npz (data.name=folder, arrays)"
            )
        if chosen:
            found[split] = chosen[0]
    if "train" not in found:
        listed = ", ".join(names) or "none"
        raise DataError(f"{where}: has no training images (its splits: {listed})")
    return found, [name for name in names if name not in found.values()]


@functools.lru_cache(maxsize=2**14)
def _sort(name: str) -> tuple[list[str], list[str]]:
    """(splits of the words, the words that are no split's and say something)."""
    words = _words(name)
    found = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    return found, [word for word in words if word not in _SPLIT_OF and word not in _SAY_NOTHING]


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without numbers: cut at signs, digits and capitals."""
    words: list[str] = []
    for run in re.split(r"[\W\d_]+", name):
        # "TESTimages" and "trainset", before capitals cut anything.
        pieces = [run] if _RUN_TOGETHER.fullmatch(run.lower()) else _CAPITALS.split(run)
        for piece in filter(None, pieces):
            words += _cut(piece.lower())
    return words


def _cut(word: str) -> list[str]:
    """A word, or the known ones that it is run together of."""
    if not _RUN_TOGETHER.fullmatch(word) or word in _KNOWN:
        return [word]
    return _ONE_KNOWN.findall(word)
