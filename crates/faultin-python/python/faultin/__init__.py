"""Mapped files whose access fails with an exception instead of "Bus error".

* ``open`` reads a file with the errors of ``read``, whatever other programs do to it.
* ``guard`` protects code that is not yours (numpy, ``re``, pyarrow) while it reads a mapping.
* ``memmap`` and ``SharedMemory`` are for stores: a full disk is ``OSError(ENOSPC)``.
* ``faultin.safetensors.load_file`` loads a file of tensors, and verifies that it did not change.
* ``explain`` makes a bus error of any other code print what happened before the process ends.

No signal handler is installed unless ``guard``, ``explain`` or ``install`` is used, or ``open`` is asked for a mapping.
"""

import os as _os

from . import _native
from ._errors import DamagedError, FaultError
from ._native import FileMap, guard, install, open
from ._shared import SharedMemory
from ._status import Status, explain, status

__all__ = [
    "DamagedError",
    "FaultError",
    "FileMap",
    "SharedMemory",
    "Status",
    "explain",
    "guard",
    "install",
    "memmap",
    "open",
    "safetensors",
    "status",
]

_os.register_at_fork(after_in_child=_native.after_fork)

from . import safetensors  # noqa: E402
from ._memmap import memmap  # noqa: E402
