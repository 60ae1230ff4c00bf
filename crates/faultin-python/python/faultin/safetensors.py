"""Loads files of tensors by reading them, not by mapping them.

A mapped file that another program truncates, or that is on a file system that fails, ends the process of whoever touches its
tensors later. ``load_file`` copies everything into memory that is allocated first, and verifies that the file has not
changed: what it returns is of one state of the file, which no program had open for writing, as far as the kernel tells.
"""

from __future__ import annotations

import errno
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from . import _native
from ._errors import FaultError

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from ._native import FileMap

__all__ = ["FormatError", "Progress", "load_file", "load_metadata"]

#: Called with the number of bytes that are loaded, and of all bytes.
Progress = Callable[[int, int], object]

#: Bytes between two calls of the progress function.
_STEP = 64 << 20

#: Bytes of the number before the header.
_NUMBER = 8

#: The limit of the format, which the safetensors package has as well.
_MAX_HEADER = 100_000_000

#: What may be better at the next attempt.
_TEMPORARY = {
    errno.EIO,
    errno.EAGAIN,
    errno.EINTR,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
}

#: The types of numpy for those of the format. (bfloat16 and the types of 8 bits are not among numpy's own.)
_NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}

#: Those of the package ml_dtypes, if that is installed.
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

#: Those of PyTorch.
_TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


class FormatError(ValueError):
    """The file is not one of tensors."""


class _Target(Protocol):
    def __call__(self, name: str, kind: str, shape: list[int], size: int, offset: int) -> tuple[Any, Any]:
        """Returns a new tensor for ``size`` bytes at ``offset`` of the file, and its memory to read into."""


#: Bytes of a cache line. The kernel copies from its pages with a string instruction, which takes two to five times as long where
#: source and destination are at different positions in a line. Memory of numpy and PyTorch begins anywhere in the tensors' line.
_LINE = 64


def _shift(address: int, offset: int, item: int) -> int:
    """Returns the position in memory of ``_LINE`` bytes more than are needed, at which they lie in a line as in the file."""
    # (A file may have tensors where their type must not be.)
    return (offset - address) % _LINE if offset % item == 0 else 0


def load_file(
    filename: StrOrBytesPath,
    device: str = "cpu",
    *,
    framework: Literal["numpy", "torch"] | None = None,
    retries: int = 3,
    delay: float = 0.1,
    progress: Progress | None = None,
    allow_writers: bool = False,
) -> dict[str, Any]:
    """Loads all tensors of a file.

    Without ``framework``, they are PyTorch's if PyTorch was imported, otherwise numpy's. ``device`` is PyTorch's.

    What may be temporary is tried again, up to ``retries`` times, after ``delay`` seconds and twice as long each time: of a read
    that failed (EIO, ESTALE, ETIMEDOUT), the rest of the tensor; of a file that changed, or is still being written, everything.

    Raises ``FaultError`` if the file cannot be read, changed, is open for writing in any process (also this one, unless
    ``allow_writers``), or is shorter than its header says; ``FormatError`` if it is not a file of tensors.
    """
    return _Load(retries, delay, progress, _target(framework, device), allow_writers).run(filename)


def load_metadata(filename: StrOrBytesPath) -> dict[str, str]:
    """Returns the strings that the file's header has beside the tensors."""
    with _native.open(filename, watch="contents") as map:
        return _header(map)[0] or {}


class _Load:
    def __init__(
        self, retries: int, delay: float, progress: Progress | None, target: _Target, allow_writers: bool
    ) -> None:
        self.allow_writers = allow_writers
        self.left = retries
        self.delay = delay
        self.progress = progress
        self.target = target

    def run(self, filename: StrOrBytesPath) -> dict[str, Any]:
        while True:
            try:
                return self.once(filename)
            except FaultError as error:
                # Of a moment between two states, or while the file is being written.
                if error.cause not in _CHANGES or not self.wait():
                    raise

    def wait(self) -> bool:
        """Waits before the next attempt, if there is one."""
        if self.left <= 0:
            return False
        self.left -= 1
        time.sleep(self.delay)
        self.delay = min(self.delay * 2, 5.0)
        return True

    def once(self, filename: StrOrBytesPath) -> dict[str, Any]:
        with _native.open(filename, watch="contents") as map:
            self.check_writers(map)
            _, base, tensors = _header(map)
            total = tensors[-1][4] if tensors else 0
            loaded: dict[str, Any] = {}
            reported = 0
            for name, kind, shape, start, end in tensors:
                tensor, memory = self.target(name, kind, shape, end - start, base + start)
                view = memoryview(memory)
                for at in range(0, end - start, _STEP):
                    part = view[at : min(at + _STEP, end - start)]
                    self.read(map, part, base + start + at)
                    if self.progress is not None and start + at + len(part) - reported >= _STEP:
                        reported = start + at + len(part)
                        self.progress(reported, total)
                loaded[name] = tensor
            # Each read has compared the file's state; this one finds a file that was replaced as well.
            map.verify()
            self.check_writers(map)
            if self.progress is not None and (reported < total or not total):
                self.progress(total, total)
            return {name: _finished(tensor) for name, tensor in loaded.items()}

    def check_writers(self, map: FileMap) -> None:
        """Raises an error if a program has the file open for writing: one that allocates the space first may be half way."""
        if not self.allow_writers and _native.is_being_written(map):
            text = (
                "a program has the file open for writing, so it may be incomplete: wait until the program closes it, "
                "have it write another file and rename that, or pass allow_writers=True if it does not write"
            )
            raise FaultError(errno.EBUSY, text, map.name, cause="being-written")

    def read(self, map: FileMap, part: memoryview, at: int) -> None:
        done = 0
        while done < len(part):
            try:
                read = map.readinto(part[done:], at + done)
            except FaultError as error:
                if error.cause in _CHANGES or error.errno not in _TEMPORARY or not self.wait():
                    raise
                done += error.done
                continue
            if not read:
                raise _too_short(map, at + len(part))
            done += read


#: Causes of a file that is not the one that was opened, or not yet.
_CHANGES = {"truncated", "grown", "rewritten", "replaced", "deleted", "touched", "past-end", "being-written"}


def _header(map: FileMap) -> tuple[dict[str, str] | None, int, list[tuple[str, str, list[int], int, int]]]:
    """Returns the strings, where the data begin, and name, type, shape, start and end of each tensor."""
    size = len(map)
    if size < _NUMBER:
        raise _too_short(map, _NUMBER)
    length = int.from_bytes(map[:_NUMBER], "little")
    if not length:
        # No header has no bytes.
        raise _not_written(map)
    if length > _MAX_HEADER:
        raise FormatError(f"{map.name}: a header of {length} bytes; the limit is {_MAX_HEADER}")
    base = _NUMBER + length
    if size < base:
        raise _too_short(map, base)
    text = map[_NUMBER:base]
    if not text.strip(b"\0"):
        raise _not_written(map)
    try:
        strings, tensors = _native.safetensors_header(text)
    except ValueError as error:
        raise FormatError(f"{map.name}: {error}") from None
    end = base + (tensors[-1][4] if tensors else 0)
    if size < end:
        raise _too_short(map, end)
    if size > end:
        raise FormatError(f"{map.name}: {size - end} bytes after the last tensor")
    return strings, base, tensors


def _too_short(map: FileMap, end: int) -> FaultError:
    size = len(map)
    text = f"the file is incomplete: it has {size} bytes, and needs {end} at least"
    return FaultError(errno.ENODATA, text, map.name, offset=size, done=0, cause="past-end")


def _not_written(map: FileMap) -> FaultError:
    """The error for space that was allocated, and is not written yet."""
    text = "the file is not written yet: there are zeros in place of the header"
    return FaultError(errno.ENODATA, text, map.name, offset=0, done=0, cause="past-end")


def _target(framework: str | None, device: str) -> _Target:
    import sys

    if framework is None:
        framework = "torch" if "torch" in sys.modules else "numpy"
    if framework == "torch":
        return _torch(device)
    if framework != "numpy":
        raise ValueError(f"framework is 'numpy' or 'torch', not {framework!r}")
    if device != "cpu":
        raise ValueError(f"numpy has no device {device!r}")
    return _numpy


def _finished(tensor: Any) -> Any:
    return tensor() if isinstance(tensor, _Moved) else tensor


#: From this size on, numpy asks the kernel for huge pages.
_ADVISED = 4 << 20


def _memory(size: int) -> Any:
    """Returns an array of bytes in pages of the usual size: where the kernel has to make room for huge ones, they take three times
    as long as copying the file."""
    import mmap

    import numpy as np

    if size < _ADVISED:
        return np.empty(size, np.uint8)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size} bytes for a tensor") from error
    return np.frombuffer(pages, np.uint8)


def _numpy(name: str, kind: str, shape: list[int], size: int, offset: int) -> tuple[Any, Any]:
    import numpy as np

    dtype: Any = _NUMPY.get(kind)
    if dtype is None and kind in _ML_DTYPES:
        try:
            ml_dtypes = importlib.import_module("ml_dtypes")
        except ImportError:
            raise TypeError(f"{name} is {kind}, which numpy has with the package ml_dtypes only") from None
        dtype = getattr(ml_dtypes, _ML_DTYPES[kind])
    if dtype is None:
        raise TypeError(f"{name} is {kind}, which numpy does not have")
    dtype = np.dtype(dtype)
    memory = _memory(size + _LINE)
    first = _shift(memory.ctypes.data, offset, dtype.itemsize)
    memory = memory[first : first + size]
    return memory.view(dtype).reshape(shape), memory


class _Moved:
    """A tensor that is copied to its device once all of them are loaded and verified."""

    def __init__(self, tensor: Any, device: str) -> None:
        self.tensor = tensor
        self.device = device

    def __call__(self) -> Any:
        return self.tensor.to(self.device)


def _torch(device: str) -> _Target:
    import torch

    on_cpu = torch.device(device).type == "cpu"

    def make(name: str, kind: str, shape: list[int], size: int, offset: int) -> tuple[Any, Any]:
        dtype = getattr(torch, _TORCH.get(kind, ""), None)
        if dtype is None:
            raise TypeError(f"{name} is {kind}, which this PyTorch does not have")
        memory = torch.empty(size + _LINE, dtype=torch.uint8)
        first = _shift(memory.data_ptr(), offset, dtype.itemsize)
        memory = memory[first : first + size]
        tensor = memory.view(dtype).reshape(shape)
        return tensor if on_cpu else _Moved(tensor, device), memory.numpy()

    return make
