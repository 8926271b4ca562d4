"""Images appended one by one to a file, and then read back as one memory-mapped array."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from vdm.errors import DiskError


class ArrayWriter:
    """An array on disk that grows by one image at a time, for sets that do not fit into memory.

    Args:
      path: the file, in a scratch folder that its owner removes.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)
        self._count = 0

    def append(self, image: np.ndarray) -> None:
        """Append an image [H,W,C].

        Raises:
          ValueError: its shape or dtype is not the first one's.
          DiskError: the file cannot be written.
        """
        try:
            # Opened late, because the first image decides shape and dtype; a large buffer spares
            # many small writes.
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
        """Return all images [N,H,W,C], memory-mapped and read-only.

        Raises:
          ValueError: nothing was appended.
          DiskError: the file cannot be written.
        """
        if self._file is None:
            raise ValueError(f"{self._path.name}: nothing was appended")
        try:
            self._file.close()
        except OSError as error:
            raise DiskError(
                f"{self._path.parent}: cannot be written ({error}); free space"
            ) from None
        return np.memmap(self._path, self._dtype, "r", shape=(self._count, *self._shape))
