"""Data sources -> one memory-mapped integer array per split + a DataSpec -> batches by number.

A *source* is small and read anew at each start (SOURCES). A *recipe* describes a large set that is
prepared once: downloaded or found, decoded, put into canonical order, split and written to the
cache (RECIPES). Later starts find it there by the hash of the request and map it into memory.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.data.base import Dataset, NotPrepared, ProgressFn, Recipe, cache_root, no_progress
from vdm.data.cache import bit_depth, catalogue
from vdm.data.cache.data_request import DataRequest, whole_request
from vdm.data.cache.prepared import content_folder, open_prepared, read_source
from vdm.data.cache.prepared import prepare as prepare_arrays
from vdm.data.cache.preparing import PreparationOptions, write_raw_dataset
from vdm.data.sources import arrays, digits, folder, published, tfds
from vdm.errors import ConfigError, choose

SOURCES: dict[str, Callable[..., Any]] = {
    "arrays": arrays.source,
    "digits": digits.source,
}
"""Sources that are read anew at each start, by name; each entry is a `vdm.data.base.Source`."""

RECIPES: dict[str, Callable[..., Recipe]] = {
    "folder": folder.recipe,
    "tfds": tfds.recipe,
    "cifar10": functools.partial(published.recipe, "cifar10"),
    "cifar100": functools.partial(published.recipe, "cifar100"),
    "mnist": functools.partial(published.recipe, "mnist"),
    "fashion_mnist": functools.partial(published.recipe, "fashion_mnist"),
    "svhn": functools.partial(published.recipe, "svhn"),
    "downsampled_imagenet_32": functools.partial(published.recipe, "downsampled_imagenet_32"),
    "downsampled_imagenet_64": functools.partial(published.recipe, "downsampled_imagenet_64"),
    "imagenet_resized_32": functools.partial(published.recipe, "imagenet_resized_32"),
    "imagenet_resized_64": functools.partial(published.recipe, "imagenet_resized_64"),
    "celeb_a": functools.partial(published.resized_recipe, "celeb_a"),
}
"""Sets that are prepared once, by name; each entry is a function (source_dir, its own options) ->
`vdm.data.base.Recipe`.
"""

_ARGUMENTS = {"folder": "path", "tfds": "builder", "arrays": "path"}
"""The option that a name of the form NAME:VALUE sets."""


def load(
    name: str,
    options: Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike | None = None,
    *,
    bits: int | None = None,
    num_validation: int | None = None,
    source_dir: str | None = None,
    verify: bool = False,
    with_tfds: bool = False,
    prepare: bool = True,
    progress: ProgressFn = no_progress,
    wait: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Return the data set `name`, prepared in the cache if need be and opened from there.

    Args:
      name, options, bits, num_validation, source_dir: see `DataRequest`.
      cache_dir: folder of the prepared arrays; None for $VDM_DATA_DIR, or ~/.cache/vdm/data.
      verify: hash all pixels again.
      with_tfds: allow TensorFlow Datasets to be imported if the set must be prepared.
      prepare: prepare the set if it is not in the cache; False only opens it, and writes nothing.
      progress: called with how far preparing is.
      wait: called with a line if another process is preparing the same data.

    Raises:
      ConfigError: an unknown name, or an unknown, missing or unsuitable option.
      NotPrepared: the set is not prepared, and `prepare` or `with_tfds` forbids to prepare it.
      DataError: a missing, malformed or unsuitable file.
      DiskError: the cache cannot be written.
    """
    data_request = DataRequest(name, dict(options or {}), bits, num_validation, source_dir)

    # Small sources have no request in the catalogue: their content hash alone finds them.
    if data_request.source in SOURCES:
        return _load_source(data_request, cache_dir, prepare)
    recipe = make_recipe(data_request)
    root, request = cache_root(cache_dir), whole_request(recipe.request, data_request)

    # The common case: a directory look-up, and nothing is imported or decoded.
    if prepared := catalogue.find(root, request, verify):
        return prepared
    if not prepare or (recipe.needs_tfds and not with_tfds):
        raise NotPrepared(_explain(data_request, root))

    # The lock is held while the set is prepared, so that several jobs that start together prepare
    # it once.
    with catalogue.preparing(root, request, wait) as scratch:
        # Another process may have prepared it while this one waited.
        if not catalogue.find(root, request):
            _prepare(root, recipe, data_request, scratch, progress)
    opened = catalogue.find(root, request, verify)
    assert opened is not None
    return opened


def classes_of_content(content_hash: str, cache_dir: str | os.PathLike | None = None) -> list[str]:
    """Return the class names of prepared data that came from folders; [] without classes."""
    return read_source(content_folder(cache_root(cache_dir), content_hash)).get("classes", [])


def open_content(
    content_hash: str, cache_dir: str | os.PathLike | None = None, verify: bool = False
) -> Dataset | None:
    """Return prepared data by their content hash, or None if they are not in the cache."""
    folder = content_folder(cache_root(cache_dir), content_hash)
    return open_prepared(folder, verify) if folder.is_dir() else None


def find_earlier(
    content_hash: str,
    name: str,
    options: Mapping[str, Any],
    cache_dir: str | os.PathLike | None = None,
    *,
    bits: int | None = None,
    num_validation: int | None = None,
    source_dir: str | None = None,
    verify: bool = False,
) -> Dataset | None:
    """Return data that an earlier revision prepared from the files of now, or None.

    Args:
      content_hash: content hash of the data wanted: the way these files are read may have changed
        since, and other pixels are of no use.
      name, options, cache_dir, bits, num_validation, source_dir, verify: see `load`.
    """
    data_request = DataRequest(name, dict(options), bits, num_validation, source_dir)
    earlier = make_recipe(data_request).earlier_request
    if earlier is None:
        return None
    dataset = catalogue.find(cache_root(cache_dir), whole_request(earlier, data_request), verify)
    return dataset if dataset and dataset.spec.content_hash == content_hash else None


def local_forms(name: str) -> str:
    """Return in words what a source_dir may hold of the set `name`; "" where only TFDS reads it."""
    return published.local_forms(name)


def make_recipe(data_request: DataRequest) -> Recipe:
    """Return the recipe of a request for data that are prepared once.

    Raises:
      ConfigError: an unknown name, or an unknown, missing or unsuitable option.
    """
    options = _options(data_request, RECIPES)
    return RECIPES[data_request.source](source_dir=data_request.source_dir, **options)


def _load_source(
    data_request: DataRequest, cache_dir: str | os.PathLike | None, prepare: bool
) -> Dataset:
    """Read a small source, drop bits if asked for, and return its arrays from the cache."""
    options = _options(data_request, SOURCES)
    for field in ("num_validation", "source_dir"):
        if getattr(data_request, field) is not None:
            raise ConfigError(
                f"data.{field}={getattr(data_request, field)!r}: "
                f"source {data_request.source!r} has no use for it; leave it unset"
            )

    # Through the cache like every other set, so that all of them are memory-mapped and hashed
    # alike.
    by_split, num_levels, notes = SOURCES[data_request.source](**options)
    shift = bit_depth.shift_for(num_levels, data_request.bits, f"data {data_request.source!r}")
    if shift:
        by_split = {s: bit_depth.reduce_levels(a, shift) for s, a in by_split.items()}
        notes = "; ".join(filter(None, [notes, bit_depth.describe(num_levels, shift)]))
    return prepare_arrays(
        data_request.source, by_split, num_levels >> shift, cache_dir, notes, write_missing=prepare
    )


def _prepare(
    root: Path, recipe: Recipe, data_request: DataRequest, scratch: Path, progress: ProgressFn
) -> None:
    """Read a recipe's data, write them to the cache and record which requests they answer."""
    raw = recipe.read(scratch, progress)

    # Published hashes hold for the whole set; a copy with missing images is accepted, with a note.
    complete = not any(len(m) for m in raw.missing.values())
    options = PreparationOptions(data_request.bits, data_request.num_validation, recipe.test_split)
    expected = recipe.expected if complete else {}
    facts, per_image = write_raw_dataset(root, recipe.name, raw, options, progress, expected)

    # A complete copy found on this machine equals the published set, so it is recorded under the
    # request without files as well.
    requests = [recipe.request]
    if complete and recipe.complete_request is not None:
        requests.append(recipe.complete_request)
    for answered in requests:
        catalogue.record(root, whole_request(answered, data_request), facts, per_image)


def _options(data_request: DataRequest, among: Mapping[str, Callable]) -> dict[str, Any]:
    """Return the source's options, checked; a name of the form NAME:VALUE sets one of them."""
    published.refuse_ambiguous(data_request.name)
    source = choose("data.name", data_request.source, {**SOURCES, **RECIPES}, "data source")
    options = dict(data_request.options)
    _, colon, argument = data_request.name.partition(":")
    if colon:
        if data_request.source not in _ARGUMENTS or not argument:
            raise ConfigError(
                f"data.name={data_request.name!r}: write {data_request.source}, or one of "
                f"{', '.join(f'{n}:{o.upper()}' for n, o in _ARGUMENTS.items())}"
            )
        options[_ARGUMENTS[data_request.source]] = argument
    _check_options(data_request.source, source, options)
    return options


def _check_options(name: str, source: Callable, options: Mapping[str, Any]) -> None:
    """Refuse unknown and missing options; the function's signature is the list of them."""
    parameters = inspect.signature(source).parameters
    known = {n: p for n, p in parameters.items() if n != "source_dir"}
    listed = f"choose from {', '.join(known)}" if known else "it has none"
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"data option {option}={value!r}: source {name!r} has no such option; {listed}"
            )
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise ConfigError(f"data option {option}: source {name!r} needs it; {listed}")


def _explain(data_request: DataRequest, root: Path) -> str:
    """Return the message for data that are not prepared, with the folders that were searched."""
    forms = local_forms(data_request.name)
    where = f"in {root}"
    if data_request.source_dir and forms:
        return (
            f"data {data_request.name!r}: {data_request.source_dir} holds none of {forms}, "
            f"and it is not prepared {where}"
        )
    return f"data {data_request.name!r}: not prepared {where}"
