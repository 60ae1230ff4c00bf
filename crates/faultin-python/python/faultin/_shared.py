"""Shared memory that is there before it is used."""

from __future__ import annotations

import errno
import os
from multiprocessing import shared_memory
from typing import Any

#: Bytes that are reserved by one call: Ctrl-C works between two.
_STEP = 64 << 20

_MOUNT = "/dev/shm"


def amount(number: int) -> str:
    """Returns a number of bytes in words."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number} bytes"


def free(file: int | str) -> str:
    """Returns the size of a file system and its free space, in words."""
    system = os.statvfs(file)
    total, left = system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize
    return f"{amount(total)}, {amount(left)} free"


class SharedMemory(shared_memory.SharedMemory):
    """``multiprocessing.shared_memory.SharedMemory`` whose memory is reserved.

    The original makes a file without memory. Each page is allocated by the first store to it, and if ``/dev/shm`` is full by
    then, that store ends the process with "Bus error". Here all pages are allocated when the memory is created or attached
    to; if that fails, the error is ``OSError`` with ``ENOSPC``, and nothing is left. Afterwards, no store to ``buf`` can fail
    for lack of space. (Another process that truncates the memory still ends this one.)

    ``reserve=False`` is the original's behaviour.
    """

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, reserve: bool = True, **words: Any
    ) -> None:
        super().__init__(name, create, size, **words)
        if not reserve:
            return
        try:
            _reserve(self._fd, self.size, self.name)  # type: ignore[attr-defined]
        except BaseException:
            self.close()
            if create:
                self.unlink()
            raise


def _reserve(fd: int, size: int, name: str) -> None:
    about = os.fstat(fd)
    if about.st_blocks * 512 >= size:
        return
    for start in range(0, size, _STEP):
        try:
            os.posix_fallocate(fd, start, min(_STEP, size - start))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # What was allocated here is freed with the memory, or belongs to those who have attached to it.
            text = (
                f"{amount(size)} of shared memory do not fit in {_MOUNT} ({free(fd)}); "
                f"in a container, `docker run --shm-size=…` makes it larger"
            )
            raise OSError(error.errno, text, f"{_MOUNT}/{name.lstrip('/')}") from None
