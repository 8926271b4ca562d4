"""Data sources -> one memory-mapped integer array per split + a DataSpec -> batches by number."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.data.base import Dataset, NotPrepared, ProgressFn, Recipe, cache_root, no_progress
from vdm.data.cache import bit_depth, catalogue
from vdm.data.cache.prepared import open_prepared, read_source
from vdm.data.cache.prepared import prepare as prepare_arrays
from vdm.data.cache.preparing import Plan, write_material
from vdm.data.sources import arrays, digits, folder, published, tfds
from vdm.errors import ConfigError, choose

SOURCES: dict[str, Callable[..., Any]] = {
    "arrays": arrays.source,
    "digits": digits.source,
}
"""Read anew at each start; each entry: a function as `vdm.data.base.Source` describes it."""

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
"""Prepared once; each entry: (source_dir, its own options) -> `vdm.data.base.Recipe`."""

_ARGUMENTS = {"folder": "path", "tfds": "builder", "arrays": "path"}
"""The option that `NAME:VALUE` sets."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """Which data, in full.

    Attributes:
      name: a key of SOURCES or RECIPES; folder:PATH, arrays:PATH and tfds:BUILDER name an option too.
      options: the source's own options.
      bits: bits kept per channel; None = all.
      num_validation: images held out where there is no validation split; None = 1000, or 5 %.
      source_dir: a folder with the set's files on this machine; None = TFDS downloads them.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bits: int | None = None
    num_validation: int | None = None
    source_dir: str | None = None

    @property
    def source(self) -> str:
        """The key of SOURCES or RECIPES."""
        return self.name.partition(":")[0]


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
    """The data set `name`, prepared in the cache if need be and opened from there.

    Args:
      name, options, bits, num_validation, source_dir: see `Wish`.
      cache_dir: where prepared arrays live; None = $VDM_DATA_DIR, or ~/.cache/vdm/data.
      verify: hash all pixels again.
      with_tfds: whether TensorFlow Datasets may be imported to prepare what is not.
      prepare: False opens a set that is prepared once only if it is.
      progress: is told how far preparing is.
      wait: is told that another process is preparing the same data.

    Raises:
      ConfigError: an unknown name, or an unknown, missing or unsuitable option.
      NotPrepared: it must be prepared first, and may not be here.
      DataError: a missing, malformed or unsuitable file.
      DiskError: the cache cannot be written.
    """
    wish = Wish(name, dict(options or {}), bits, num_validation, source_dir)
    if wish.source in SOURCES:
        return _load_source(wish, cache_dir)
    recipe = make_recipe(wish)
    root, request = cache_root(cache_dir), _request(recipe.request, wish)
    if found := catalogue.find(root, request, verify):
        return found
    if not prepare or (recipe.needs_tfds and not with_tfds):
        raise NotPrepared(_explain(wish, root))
    with catalogue.preparing(root, request, wait) as scratch:
        # Another process may have prepared it while this one waited.
        if not catalogue.find(root, request):
            _prepare(root, recipe, wish, scratch, progress)
    opened = catalogue.find(root, request, verify)
    assert opened is not None
    return opened


def classes_of_content(content_hash: str, cache_dir: str | os.PathLike | None = None) -> list[str]:
    """Folders of images that became classes, of prepared data; [] where there were none."""
    return read_source(cache_root(cache_dir) / content_hash).get("classes", [])


def open_content(
    content_hash: str, cache_dir: str | os.PathLike | None = None, verify: bool = False
) -> Dataset | None:
    """Prepared data by their content hash, or None when they are not in the cache."""
    found = cache_root(cache_dir) / content_hash
    return open_prepared(found, verify) if found.is_dir() else None


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
    """Data that an earlier revision prepared from the very files that are there now, or None.

    Args:
      content_hash: of the data wanted; the way these files are read may have changed since.
      name, options, cache_dir, bits, num_validation, source_dir, verify: see `load`.
    """
    wish = Wish(name, dict(options), bits, num_validation, source_dir)
    earlier = make_recipe(wish).earlier_request
    if earlier is None:
        return None
    found = catalogue.find(cache_root(cache_dir), _request(earlier, wish), verify)
    return found if found and found.spec.content_hash == content_hash else None


def local_forms(name: str) -> str:
    """What a source_dir may hold of the set `name`, in words; "" where only TFDS reads it."""
    return published.local_forms(name) if name in published.PUBLISHED else ""


def make_recipe(wish: Wish) -> Recipe:
    """The recipe that a wish for prepared data describes.

    Raises:
      ConfigError: an unknown name, or an unknown, missing or unsuitable option.
    """
    options = _options(wish, RECIPES)
    return RECIPES[wish.source](source_dir=wish.source_dir, **options)


def _load_source(wish: Wish, cache_dir: str | os.PathLike | None) -> Dataset:
    options = _options(wish, SOURCES)
    for field in ("num_validation", "source_dir"):
        if getattr(wish, field) is not None:
            raise ConfigError(
                f"data.{field}={getattr(wish, field)!r}: source {wish.source!r} has no use for it; "
                "leave it unset"
            )
    by_split, num_levels, notes = SOURCES[wish.source](**options)
    shift = bit_depth.shift_for(num_levels, wish.bits, f"data {wish.source!r}")
    if shift:
        by_split = {s: bit_depth.reduce_levels(a, shift) for s, a in by_split.items()}
        notes = "; ".join(filter(None, [notes, bit_depth.describe(num_levels, shift)]))
    return prepare_arrays(wish.source, by_split, num_levels >> shift, cache_dir, notes)


def _prepare(root: Path, recipe: Recipe, wish: Wish, scratch: Path, progress: ProgressFn) -> None:
    material = recipe.read(scratch, progress)
    complete = not any(len(m) for m in material.missing.values())
    plan = Plan(wish.bits, wish.num_validation, recipe.test_split)
    expected = recipe.expected if complete else {}
    facts, per_image = write_material(root, recipe.name, material, plan, progress, expected)
    requests = [recipe.request]
    if complete and recipe.complete_request is not None:
        requests.append(recipe.complete_request)
    for answered in requests:
        catalogue.record(root, _request(answered, wish), facts, per_image)


def _request(request: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    return {"source": dict(request), "bits": wish.bits, "num_validation": wish.num_validation}


def _options(wish: Wish, among: Mapping[str, Callable]) -> dict[str, Any]:
    """The source's options, checked; `NAME:VALUE` sets one of them."""
    published.refuse_ambiguous(wish.name)
    source = choose("data.name", wish.source, {**SOURCES, **RECIPES}, "data source")
    options = dict(wish.options)
    _, colon, argument = wish.name.partition(":")
    if colon:
        if wish.source not in _ARGUMENTS or not argument:
            raise ConfigError(
                f"data.name={wish.name!r}: write {wish.source}, or one of "
                f"{', '.join(f'{n}:{o.upper()}' for n, o in _ARGUMENTS.items())}"
            )
        options[_ARGUMENTS[wish.source]] = argument
    _check_options(wish.source, source, options)
    return options


def _check_options(name: str, source: Callable, options: Mapping[str, Any]) -> None:
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


def _explain(wish: Wish, root: Path) -> str:
    """That data are not prepared, and what to do."""
    forms = local_forms(wish.name)
    where = f"in {root}"
    if wish.source_dir and forms:
        return (
            f"data {wish.name!r}: {wish.source_dir} holds none of {forms}, and it is not prepared "
            f"{where}"
        )
    return f"data {wish.name!r}: not prepared {where}"
