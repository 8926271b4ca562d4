"""Images appended one by one to a file, and then read back as one memory-mapped array."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from vdm.errors import DiskError


class Spill:
    """What does not fit into memory goes here first; the file lies in a scratch folder."""

    def __init__(self, path: Path):
        self._path = path
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)
        self._count = 0

    def append(self, image: np.ndarray) -> None:
        """One more image [H,W,C]; all must have the first one's shape and dtype."""
        try:
            if self._file is None:
                self._file = open(self._path, "wb", buffering=2**22)
                self._shape, self._dtype = image.shape, image.dtype
            if (image.shape, image.dtype) != (self._shape, self._dtype):
                raise ValueError(f"{image.dtype} {image.shape} among {self._dtype} {self._shape}")
            self._file.write(np.ascontiguousarray(image).data)
        except OSError as error:
            raise DiskError(
                f"{self._path.parent}: cannot be written ({error}); free space"
            ) from None
        self._count += 1

    def finish(self) -> np.ndarray:
        """All images [N,H,W,C], read-only; at least one was appended."""
        if self._file is None:
            raise ValueError(f"{self._path.name}: nothing was appended")
        try:
            self._file.close()
        except OSError as error:
            raise DiskError(
                f"{self._path.parent}: cannot be written ({error}); free space"
            ) from None
        return np.memmap(self._path, self._dtype, "r", shape=(self._count, *self._shape))
