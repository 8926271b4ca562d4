"""The request for a data set, by whose hash the cache finds what was prepared for it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataRequest:
    """A fully specified request for a data set; its hash is the cache key.

    Attributes:
      name: a key of SOURCES or RECIPES; folder:PATH, arrays:PATH and tfds:BUILDER name an option
        too.
      options: the source's own options.
      bits: bits kept per channel; None keeps all.
      num_validation: images held out where there is no validation split; None for 1000, or 5 % if
        that is less.
      source_dir: a folder with the set's files on this machine; None lets TFDS download them.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bits: int | None = None
    num_validation: int | None = None
    source_dir: str | None = None

    @property
    def source(self) -> str:
        """The key of SOURCES or RECIPES, without the option's value."""
        return self.name.partition(":")[0]


def whole_request(request: Mapping[str, Any], data_request: DataRequest) -> dict[str, Any]:
    """Return the whole request as JSON: the recipe's, and what is done to the pixels afterwards."""
    return {
        "source": dict(request),
        "bits": data_request.bits,
        "num_validation": data_request.num_validation,
    }
