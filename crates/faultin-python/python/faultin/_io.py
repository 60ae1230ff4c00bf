"""A file map as a stream."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    from ._native import FileMap


class MapIO(io.RawIOBase):
    """A stream over a map, with a position of its own. Closing it leaves the map open."""

    def __init__(self, map: FileMap) -> None:
        self._map = map
        self._position = 0

    @property
    def name(self) -> str | None:
        return self._map.name

    @property
    def mode(self) -> str:
        return "rb"

    def readable(self) -> bool:
        self._check()
        return True

    def seekable(self) -> bool:
        self._check()
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._check()
        read = self._map.readinto(buffer, self._position)
        self._position += read
        return read

    def readall(self) -> bytes:
        self._check()
        rest = self._map.read(-1, self._position)
        self._position += len(rest)
        return rest

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check()
        if whence == os.SEEK_SET:
            start = 0
        elif whence == os.SEEK_CUR:
            start = self._position
        elif whence == os.SEEK_END:
            start = len(self._map)
        else:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        self._check()
        return self._position

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def open_again(path: str, watch: str, backend: str | None) -> FileMap:
    """What a pickled map calls."""
    return _native.open(path, watch=watch, backend=backend)  # type: ignore[arg-type]
