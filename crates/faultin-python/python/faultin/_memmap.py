"""A writable array file, whose stores may fail."""

from __future__ import annotations

import errno
import math
import operator
import os
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._errors import FaultError
from ._shared import amount, free

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import StrOrBytesPath
    from numpy.typing import ArrayLike, DTypeLike, NDArray

#: Bytes that are converted and stored at once.
_BLOCK = 4 << 20


class memmap:
    """An array in a file, as ``numpy.memmap``, with stores that raise ``OSError`` on a full or failing disk.

    Reading copies. ``mode`` is ``"r+"`` (the file exists) or ``"w+"`` (it is created, or emptied). A file that is created, or is
    too short, gets its size and, with ``reserve``, its space at once: a full disk is an error here and not later, on file
    systems that can reserve.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    filename: str

    def __init__(
        self,
        filename: StrOrBytesPath,
        dtype: DTypeLike = "uint8",
        mode: Literal["r+", "w+"] = "r+",
        offset: int = 0,
        shape: int | tuple[int, ...] | None = None,
        *,
        reserve: bool = True,
    ) -> None:
        import numpy as np

        if mode not in ("r+", "w+"):
            raise ValueError(f"mode is 'r+' or 'w+', not {mode!r}; faultin.open is for reading")
        if offset < 0:
            raise ValueError(f"a negative offset: {offset}")
        self.filename = os.path.abspath(os.fsdecode(filename))
        self.dtype = np.dtype(dtype)
        if self.dtype.hasobject or self.dtype.itemsize == 0:
            raise ValueError(f"values of type {self.dtype} cannot be stored in a file")
        self._offset = offset
        if shape is None:
            if mode == "w+":
                raise ValueError("a new file needs a shape")
            length = os.stat(self.filename).st_size - offset
            count, rest = divmod(length, self.dtype.itemsize)
            if rest or length < 0:
                raise ValueError(f"the file has {length} bytes after the offset, no multiple of {self.dtype.itemsize}")
            self.shape = (count,)
        else:
            self.shape = tuple(map(operator.index, shape)) if isinstance(shape, tuple) else (operator.index(shape),)
            if min(self.shape, default=0) < 0:
                raise ValueError(f"a negative length: {self.shape}")
        end = offset + self.nbytes
        try:
            self._map = _native.open_writable(self.filename, create=mode == "w+", size=end, reserve=reserve)
        except FaultError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = f"{amount(end)} do not fit on the file's disk ({free(os.path.dirname(self.filename))})"
            if mode == "w+":
                text += "; the file exists, without its contents"
            text += ": free some space, or choose another folder"
            raise FaultError(error.errno, text, self.filename, offset=error.offset, cause=error.cause) from None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the values."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def store(self, index: Any, value: ArrayLike) -> None:
        """Stores a value or an array at an index of integers, slices and ``...``.

        Raises ``FaultError``: ``done`` is the number of bytes that were stored, from the first byte of the index.
        """
        import numpy as np

        place, shape, kept = self._place(index)
        values = np.broadcast_to(np.asarray(value, self.dtype), kept).reshape(shape)
        done, step = 0, max(1, _BLOCK // self.dtype.itemsize)
        for start, block in _runs(place, values):
            count = block.size
            # What is not contiguous in memory is copied block by block.
            flat = block.reshape(-1) if block.flags.c_contiguous else block.flat
            for first in range(0, count, step):
                part = np.ascontiguousarray(flat[first : first + step])
                self._write(part, start + first * self.dtype.itemsize, done)
                done += part.nbytes

    def load(self, index: Any = ...) -> Any:
        """Returns a copy of the values at an index: an array, or a single value."""
        import numpy as np

        place, shape, kept = self._place(index)
        result = np.empty(shape, self.dtype)
        for start, block in _runs(place, result):
            part = block.reshape(-1).view(np.uint8)
            read = self._map.readinto(part, start)
            if read != part.nbytes:
                raise EOFError(f"{self.filename} ends at byte {start + read}")
        result = result.reshape(kept)
        return result if kept or index is ... else result[()]

    __getitem__ = load
    __setitem__ = store

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        import numpy as np

        if copy is False:
            raise ValueError("an array of a faultin.memmap is a copy")
        loaded = np.asarray(self.load(...))
        return loaded if dtype is None else loaded.astype(dtype, copy=False)

    def copyfrom(self, values: ArrayLike, start: int = 0) -> None:
        """Stores an array in blocks from the value number ``start`` on, in the order of the file.

        The array is converted block by block, so it may be larger than the memory (a ``numpy.memmap``, for example).
        """
        import numpy as np

        source = np.asanyarray(values)
        count = source.size
        if start < 0 or start + count > self.size:
            raise IndexError(f"{count} values from number {start} on do not fit: there are {self.size}")
        flat = source.reshape(-1) if source.flags.c_contiguous else source.flat
        step = max(1, _BLOCK // self.dtype.itemsize)
        for first in range(0, count, step):
            block = np.ascontiguousarray(flat[first : first + step], self.dtype)
            self._write(block, self._offset + (start + first) * self.dtype.itemsize, first * self.dtype.itemsize)

    def flush(self) -> None:
        """Writes what was stored to the disk; raises an error that the disk reports."""
        self._map.flush()

    def close(self) -> None:
        """Releases the file. It flushes nothing."""
        self._map.close()

    def __enter__(self) -> memmap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<faultin.memmap of {self.filename!r}, {self.dtype}, {self.shape}>"

    def _write(self, part: NDArray[Any], at: int, before: int) -> None:
        import numpy as np

        if not part.nbytes:
            return
        try:
            self._map.write(part.reshape(-1).view(np.uint8), at)
        except FaultError as error:
            error.done += before
            raise

    def _place(self, index: Any) -> tuple[_Place, tuple[int, ...], tuple[int, ...]]:
        """Returns the position of an index, its shape with a length of one for each integer, and without those."""
        items = index if isinstance(index, tuple) else (index,)
        dots = [number for number, item in enumerate(items) if item is ...]
        if len(dots) > 1:
            raise IndexError("an index has at most one ellipsis")
        missing = len(self.shape) - (len(items) - len(dots))
        if missing < 0:
            raise IndexError(f"too many indices: the array has {len(self.shape)} dimensions")
        at = dots[0] if dots else len(items)
        items = items[:at] + (slice(None),) * missing + items[at + 1 :]
        start, stride = self._offset, self.dtype.itemsize
        strides: list[int] = []
        shape: list[int] = []
        kept: list[int] = []
        for item, length in zip(reversed(items), reversed(self.shape), strict=True):
            if isinstance(item, slice):
                numbers = range(*item.indices(length))
                kept.append(len(numbers))
            else:
                if isinstance(item, bool) or not hasattr(item, "__index__"):
                    raise IndexError("an index consists of integers, slices and '...'")
                number = operator.index(item)
                if not -length <= number < length:
                    raise IndexError(f"index {number} is out of range for a length of {length}")
                numbers = range(number % length, number % length + 1)
            start += (numbers.start if numbers else 0) * stride
            strides.append(numbers.step * stride)
            shape.append(len(numbers))
            stride *= length
        return (start, tuple(reversed(strides))), tuple(reversed(shape)), tuple(reversed(kept))


#: Position of the first byte, and bytes from one value to the next of each dimension.
_Place = tuple[int, tuple[int, ...]]


def _runs(place: _Place, values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields position and values of each part that is contiguous in the file."""
    import numpy as np

    if not values.size:
        return
    start, strides = place
    # The dimensions at the end that are contiguous in the file.
    inner, size = values.ndim, values.dtype.itemsize
    while inner and (strides[inner - 1] == size or values.shape[inner - 1] == 1):
        size *= values.shape[inner - 1]
        inner -= 1
    for outer in np.ndindex(*values.shape[:inner]):
        at = start + sum(number * stride for number, stride in zip(outer, strides, strict=False))
        yield at, values[(*outer, ...)]
