"""The state of the signal handlers."""

from __future__ import annotations

import errno
import faulthandler
import sys
from dataclasses import dataclass
from typing import Literal

from . import _native
from ._errors import FaultError


@dataclass(frozen=True)
class Status:
    """The state of the handlers, as the calling thread sees it, and the numbers of this process."""

    #: Whether this package has installed a signal handler: for ``install``, ``guard``, ``explain`` or a mapping.
    installed: bool
    #: The handler for SIGBUS: called first by the kernel, below another handler, or absent.
    bus: Literal["first", "below", "absent", "host"]
    #: The same for SIGSEGV.
    segv: Literal["first", "below", "absent", "host"]
    #: Whether this thread blocks one of the signals: then a fault in it ends the process.
    blocked: bool
    #: Whether a bus error is explained before it ends the process.
    explains: bool
    #: Whether faulthandler is enabled.
    faulthandler: bool
    #: How ``open`` reads if it is not told: ``"mapping"`` after ``install``, otherwise ``"pread"``, whatever else installs the handler.
    backend: Literal["mapping", "pread"]
    #: Number of guarded parts of mappings.
    guards: int
    #: Number of faults that became errors.
    recovered: int
    #: Number of pages that a guard has replaced by zeros.
    substituted: int


def status() -> Status:
    """Returns the state of the handlers."""
    return Status(faulthandler=faulthandler.is_enabled(), **_native.status())


def explain(*, traceback: bool = True) -> None:
    """Makes a bus error of any code print one line: file, offset, cause, and what to do.

    Then the process ends as it would have. With ``traceback``, faulthandler is enabled as well, unless it is, and prints the
    Python stack of the threads.
    """
    if traceback and not faulthandler.is_enabled() and sys.stderr is not None:
        # First: its handler is to run after ours.
        try:
            faulthandler.enable()
        except RuntimeError as error:
            # It is raised with the number and the text of the kernel's error.
            number = error.args[0] if error.args and isinstance(error.args[0], int) else errno.ENOSYS
            raise FaultError(number, f"faulthandler cannot be enabled: {error.args[-1]}", cause="no-handler") from error
    _native.explain()
