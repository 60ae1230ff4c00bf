"""The exceptions."""

from __future__ import annotations

from typing import Any


class FaultError(OSError):
    """An operation on a mapped file that did not do everything.

    ``errno``, ``strerror`` and ``filename`` are those of every ``OSError``.
    """

    #: Position in the file of the first byte that was not done; None if the operation has no position.
    offset: int | None
    #: Number of bytes done, from the start of the operation.
    done: int
    #: The reason in one word, such as ``"truncated"``, ``"io"``, ``"no-space"`` or ``"being-written"``.
    cause: str

    def __init__(
        self,
        errno: int,
        strerror: str,
        filename: str | None = None,
        *,
        offset: int | None = None,
        done: int = 0,
        cause: str = "other",
    ) -> None:
        super().__init__(errno, strerror, filename)
        self.offset = offset
        self.done = done
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions of worker processes are pickled.
        words = {"offset": self.offset, "done": self.done, "cause": self.cause}
        return _remake, (type(self), (self.errno, self.strerror, self.filename), words)


class DamagedError(FaultError):
    """A guarded block has read bytes that were not the file's."""

    #: The ranges of the file, from a first byte to the byte after the last one.
    ranges: list[tuple[int, int]]
    #: The errors of other files that the block has read and that are damaged too. They are notes of this error as well.
    others: list[DamagedError]

    def __init__(
        self,
        errno: int,
        strerror: str,
        filename: str | None = None,
        *,
        offset: int | None = None,
        done: int = 0,
        cause: str = "other",
        ranges: list[tuple[int, int]] | None = None,
        others: list[DamagedError] | None = None,
    ) -> None:
        super().__init__(errno, strerror, filename, offset=offset, done=done, cause=cause)
        self.ranges = ranges or []
        self.others = others or []
        for other in self.others:
            self.add_note(f"Damaged too: {other}")

    def __reduce__(self) -> tuple[Any, ...]:
        words = {"offset": self.offset, "done": self.done, "cause": self.cause, "ranges": self.ranges, "others": self.others}
        return _remake, (type(self), (self.errno, self.strerror, self.filename), words)


def _remake(kind: type[FaultError], arguments: tuple[Any, ...], words: dict[str, Any]) -> FaultError:
    return kind(*arguments, **words)
