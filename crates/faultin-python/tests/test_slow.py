"""Files of a server that answers slowly: other threads run meanwhile, and Ctrl-C works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest



Slow = Callable[..., str]


@pytest.fixture
def slow(namespace: Callable[..., str], skip: Callable[[str, str], None], tmp_path: Path) -> Slow:
    """Runs a script that has a slow file, `file`."""
    folder = tmp_path / "mount"
    folder.mkdir()
    begin = (
        "import sys; sys.path.insert(0, sys.argv[2]); import fuse\n"
        "import faultin, mmap, os, threading, time\n"
        "try:\n"
        "    file = fuse.SlowFile(sys.argv[1], direct=sys.argv[3] == 'direct')\n"
        "except OSError as error:\n"
        "    sys.exit(print('no fuse:', error))\n"
    )

    def run_slow(script: str, kind: str = "cached") -> str:
        import textwrap

        end = "\nfile.end()\n"
        printed = namespace("true", begin + textwrap.dedent(script) + end, folder, Path(__file__).parent, kind)
        if printed.startswith("no fuse:"):
            skip("fuse", printed)
        return printed

    return run_slow


#: A mapping of the file, and a guard that is entered while the file is fast.
MAPPED = """
with open(file.path, "rb") as opened:
    mapping = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
guard = faultin.guard(mapping)
def ends():
    try:
        guard.__exit__(None, None, None)
    except faultin.DamagedError as error:
        print(error.cause)
"""


def test_threads_run_while_a_guard_asks_for_the_state_of_a_slow_file(slow: Slow) -> None:
    printed = slow(
        MAPPED
        + """
file.set(stat=fuse.SLOW)
for function in guard.__enter__, ends:
    pause, took = fuse.longest_pause(function)
    assert took >= fuse.SLOW and pause < fuse.PAUSE, (function, pause, took)
print("done")
"""
    )
    assert printed == "done\n"


def test_threads_run_while_a_guard_reads_the_page_that_failed(slow: Slow) -> None:
    printed = slow(
        MAPPED
        + """
guard.__enter__()
file.set(fails=True)
assert mapping[5 << 20] == 0
file.set(fails=True, read=fuse.SLOW)
pause, took = fuse.longest_pause(ends)
assert took >= fuse.SLOW and pause < fuse.PAUSE, (pause, took)
print("done")
"""
    )
    assert printed == "io\ndone\n"


@pytest.mark.parametrize("how", ["map.close()", "del map", "next(chunks); map.close(); del chunks", "memory.close()"])
def test_threads_run_while_a_slow_file_is_closed(slow: Slow, how: str) -> None:
    printed = slow(
        f"""
def close():
    global map, chunks
    {how}
map = faultin.open(file.path)
chunks = map.chunks(4096) if "chunks" in {how!r} else None
if "memory" in {how!r}:
    map.close()
    memory = faultin._native.open_writable(file.path)
file.set(close=fuse.SLOW)
pause, took = fuse.longest_pause(close)
assert took >= fuse.SLOW and pause < fuse.PAUSE, (pause, took)
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.parametrize(
    "operation",
    [
        "map.readinto(bytearray(8 << 20))",
        "map.read(8 << 20)",
        "map.find(b'none')",
        "map.rfind(b'none')",
        "map.count(b'none')",
        "map.blake3()",
        "next(map.lines())",
        "list(map.chunks(8 << 20))",
    ],
)
def test_ctrl_c_stops_an_operation_on_a_slow_file(slow: Slow, operation: str) -> None:
    """A server that sends 2 MB a second: a piece of 4 MiB would take two seconds. (The promise is 100 ms, and the machine of a test
    may be busy.)"""
    printed = slow(
        f"""
map = faultin.open(file.path)
file.set(read=0.002)
latency = fuse.latency_of_ctrl_c(lambda: {operation})
assert latency < fuse.PAUSE, latency
print("done")
""",
        "direct",
    )
    assert printed == "done\n"


def test_ctrl_c_stops_a_guard_that_waits_for_the_clock_of_a_file(slow: Slow) -> None:
    """Times of whole seconds: it waits two of them."""
    printed = slow(
        MAPPED
        + """
file.set(time=time.time() + 1)
latency = fuse.latency_of_ctrl_c(guard.__enter__)
assert latency < 1.5, latency
assert faultin.status().guards == 0
print("done")
"""
    )
    assert printed == "done\n"


def test_a_line_of_any_length_is_one_line(tmp_path: Path) -> None:
    import faultin

    path = tmp_path / "lines"
    lines = [b"a" * size + b"\n" for size in (0, 65_535, 65_536, 65_537, 1 << 20, 5, (64 << 20) - 1, 64 << 20)] + [b"b" * 70_000]
    path.write_bytes(b"".join(lines))
    for backend in ("pread", "mapping"):
        with faultin.open(path, backend=backend) as map:
            assert all(a == b for a, b in zip(map.lines(), lines, strict=True))
    for text in (b"a" * ((64 << 20) + 1), b"a" * ((64 << 20) + 1) + b"\n"):
        path.write_bytes(b"first\n" + text)
        with faultin.open(path) as map:
            read = map.lines()
            assert next(read) == b"first\n"
            with pytest.raises(faultin.FaultError) as error:
                next(read)
            assert (error.value.cause, error.value.errno, error.value.offset) == ("line-too-long", 90, 6)
