"""A file system with one file, whose server is as slow as a test wants it: enough of the FUSE protocol for that."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable

SIZE = 16 << 20

#: What is a pause, in seconds; a machine may be slow.
PAUSE = int(os.environ.get("FAULTIN_PATIENCE", "1"))

#: How long a slow server takes.
SLOW = 2 * PAUSE

_LOOKUP, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT = 1, 3, 14, 15, 18, 25, 26
#: Those that have no answer.
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42


class SlowFile:
    """A file of ones. What is set here holds from the next request on: seconds of delay for each kind of request."""

    def __init__(self, folder: str, *, direct: bool = False) -> None:
        self.path = os.path.join(folder, "file")
        #: Delays of a read of up to a page (`direct`) or more, of `stat`, and of `close`; the time of the file; whether reads fail.
        self._words = mmap.mmap(-1, 40)
        self._direct = direct
        self.set()
        device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,max_read=4096"
        libc = ctypes.CDLL(None, use_errno=True)
        # MS_NOSUID and MS_NODEV.
        if libc.mount(b"slow", folder.encode(), b"fuse", ctypes.c_ulong(6), options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self._server = os.fork()
        if self._server == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                # PR_SET_PDEATHSIG: a test that fails does not wait for its server.
                libc.prctl(1, signal.SIGKILL)
                self._serve(device)
            finally:
                os._exit(1)
        os.close(device)

    def set(self, *, read: float = 0, stat: float = 0, close: float = 0, time: float = 1e9, fails: bool = False) -> None:
        struct.pack_into("5d", self._words, 0, read, stat, close, time, fails)

    def end(self) -> None:
        os.kill(self._server, signal.SIGKILL)
        os.waitpid(self._server, 0)

    def _attributes(self, node: int, when: float) -> bytes:
        size, mode = (SIZE, 0o100444) if node == 2 else (0, 0o40555)
        whole = int(when)
        return struct.pack("<6Q10I", node, size, size // 512, whole, whole, whole, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _serve(self, device: int) -> None:
        while True:
            request = os.read(device, 1 << 20)
            _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
            read, stat, close, when, fails = struct.unpack_from("5d", self._words)
            error, answer = 0, b""
            if opcode in (_FORGET, _INTERRUPT, _BATCH_FORGET):
                continue
            if opcode == _INIT:
                # Version 7.31, no readahead, no capabilities.
                answer = struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
            elif opcode == _LOOKUP:
                # The name is found for a long time, and the attributes are asked for each time.
                answer = struct.pack("<4Q2I", 2, 0, 1 << 20, 0, 0, 0) + self._attributes(2, when)
            elif opcode == _GETATTR:
                time.sleep(stat)
                answer = struct.pack("<Q2I", 0, 0, 0) + self._attributes(node, when)
            elif opcode == _OPEN:
                # FOPEN_DIRECT_IO, or FOPEN_KEEP_CACHE.
                answer = struct.pack("<Q2I", 1, 1 if self._direct else 2, 0)
            elif opcode == _READ:
                _, offset, size = struct.unpack_from("<QQI", request, 40)
                time.sleep(read)
                error, answer = (-5, b"") if fails else (0, b"\1" * max(0, min(size, SIZE - offset)))
            elif opcode == _FLUSH:
                time.sleep(close)
            elif opcode != _RELEASE:
                error = -38
            os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)


def longest_pause(function: Callable[[], object]) -> tuple[float, float]:
    """Calls a function beside a thread that ticks. Returns the longest time between two ticks, and that of the call."""
    pause, ends = 0.0, False

    def tick() -> None:
        nonlocal pause
        last = time.monotonic()
        while not ends:
            time.sleep(0.005)
            now = time.monotonic()
            pause, last = max(pause, now - last), now

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.monotonic()
    try:
        function()
    finally:
        took = time.monotonic() - begun
        ends = True
        thread.join()
    return pause, took


def latency_of_ctrl_c(function: Callable[[], object]) -> float:
    """Interrupts a function after a while. Returns the time until it has ended."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        function()
    except KeyboardInterrupt:
        return time.monotonic() - begun - 0.1
    raise AssertionError("it has ended")
