"""What `.ci/run` runs: needs no package but pytest."""

from __future__ import annotations

import errno
import io
import mmap
import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, age, dies, prints, run

import faultin

README = Path(__file__).parents[1] / "README.md"


def test_the_first_example_of_the_readme_prints_what_the_readme_shows() -> None:
    text = README.read_text()
    program = text.split("```python\n")[1].split("```")[0]
    shown = text.split("```text\n")[1].split("```")[0]
    printed = re.sub(r"'/.*/data'", "'/tmp/…/data'", prints(program))
    assert printed == shown


def test_a_truncated_mapping_ends_a_plain_program_and_not_this_one(data: Path) -> None:
    dies(
        """
        import mmap, os, sys
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os.truncate(sys.argv[1], 5000)
        print(mapping.find(b"x"))
        """,
        data,
    )
    data.write_bytes(b"\1" * (1 << 20))
    for backend in ("pread", "mapping"):
        with open(data, "r+b") as file:
            file.truncate(1 << 20)
        printed = prints(
            """
            import faultin, os, sys
            with faultin.open(sys.argv[1], backend=sys.argv[2]) as map:
                assert map.backend == sys.argv[2]
                os.truncate(sys.argv[1], 5000)
                for attempt in (lambda: map.readinto(bytearray(1 << 20)), lambda: map.count(b"ab"), lambda: map.blake3()):
                    try:
                        attempt()
                    except faultin.FaultError as error:
                        print(error.errno, error.filename == sys.argv[1], error.cause)
            """,
            data,
            backend,
        )
        assert printed == f"{errno.ESTALE} True truncated\n" * 3


def test_no_handler_is_installed_unless_asked(data: Path) -> None:
    printed = prints(
        """
        import faultin, io, os, sys
        def caught():
            # Bits of SIGBUS (7) and SIGSEGV (11).
            line = next(line for line in open("/proc/self/status") if line.startswith("SigCgt:"))
            return bool(int(line.split()[1], 16) & (1 << 6 | 1 << 10))
        assert not caught()
        with faultin.open(sys.argv[1]) as map:
            assert map.backend == "pread" and map[:2] == b"\\1\\1" and map.find(b"\\2") == -1
            list(map.lines()), map.blake3(), map.verify(), map.reader().read()
            assert not caught()
        assert faultin.status().installed is False and faultin.status().bus == "absent"
        assert not caught()
        faultin.install()
        assert caught()
        assert faultin.status().installed and faultin.status().bus == "first"
        with faultin.open(sys.argv[1]) as map:
            assert map.backend == "mapping"
        print("done")
        """,
        data,
    )
    assert printed == "done\n"


@pytest.mark.parametrize("call", ["explain()", "guard(mapping).__enter__()", "open(sys.argv[1], backend='mapping')"])
def test_only_install_changes_how_files_are_opened(data: Path, call: str) -> None:
    printed = prints(
        f"""
        import faultin, mmap, sys
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        faultin.{call}
        assert faultin.status().installed and faultin.status().bus == "first"
        for backend in "pread", "mapping":
            with faultin.open(sys.argv[1]) as map:
                print(map.backend, faultin.status().backend)
            faultin.install()
        """,
        data,
    )
    assert printed == "pread pread\nmapping mapping\n"


@pytest.mark.parametrize("call", ["install()", "explain()", "explain(traceback=False)", "guard(mapping).__enter__()"])
def test_a_handler_that_cannot_be_installed_is_an_error_like_all_others(
    data: Path, call: str, skip: Callable[[str, str], None]
) -> None:
    """Where a filter of system calls forbids handlers for signals."""
    printed = prints(
        f"""
        import ctypes, faultin, mmap, os, struct, sys
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        number = {{"x86_64": 13, "aarch64": 134}}[os.uname().machine]
        # Load the number of the call; rt_sigaction fails with EPERM; all others are allowed.
        program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
        filter = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
        libc = ctypes.CDLL(None, use_errno=True)
        # PR_SET_NO_NEW_PRIVS, and PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter) != 0:
            sys.exit(print("no filter:", os.strerror(ctypes.get_errno())))
        try:
            faultin.{call}
        except faultin.FaultError as error:
            print(error.errno, error.cause)
        assert not faultin.status().explains
        """,
        data,
    )
    if printed.startswith("no filter:"):
        skip("seccomp", printed)
    assert printed == f"{errno.EPERM} no-handler\n"


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_a_map_answers_as_the_bytes_do(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "text"
    content = b"one\ntwo\n\nthree" + b"abab" * 5000
    path.write_bytes(content)
    with faultin.open(path, backend=backend) as map:  # type: ignore[arg-type]
        assert len(map) == len(content) and map.read() == content and map.name == str(path)
        assert map.read(3, 4) == b"two" and map.read(5, len(content)) == b"" and map.read(9, len(content) - 2) == b"ab"
        buffer = bytearray(b"x" * 10)
        assert map.readinto(buffer, len(content) - 4) == 4 and buffer == b"abab" + b"x" * 6
        for slice_ in (slice(3), slice(-5, None), slice(None, None, -1), slice(10, 100, 7), slice(50, 10, -3), slice(5, 2)):
            assert map[slice_] == content[slice_], slice_
        assert map[0] == content[0] and map[-1] == content[-1]
        with pytest.raises(IndexError):
            map[len(content)]
        for needle in (b"", b"a", b"ab", b"ba", b"abab", b"three", b"none", b"\n"):
            assert map.find(needle) == content.find(needle), needle
            assert map.rfind(needle) == content.rfind(needle), needle
            assert map.count(needle) == content.count(needle), needle
            assert map.find(needle, 5, -3) == content.find(needle, 5, -3), needle
            assert map.count(needle, 5, -3) == content.count(needle, 5, -3), needle
        assert b"".join(map.chunks(777)) == content and list(map.chunks(100, 10, 215)) == [
            content[10:110],
            content[110:210],
            content[210:215],
        ]
        assert list(map.lines()) == content.splitlines(keepends=True) == list(map)
        assert list(map.lines(start=5)) == content[5:].splitlines(keepends=True)
        with map.reader() as reader:
            assert isinstance(reader, io.BufferedReader) and reader.readline() == b"one\n"
            assert reader.seek(-4, os.SEEK_END) and reader.read() == b"abab"
        raw = map.raw()
        assert isinstance(raw, io.RawIOBase) and raw.seek(4) == 4 and raw.read(3) == b"two" and raw.tell() == 7
        assert not map.closed
    assert map.closed
    with pytest.raises(ValueError, match="closed"):
        map.read()


def _in_threads(iterator: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """Reads an iterator by four threads. Returns what all have got, and whether one has got its end too early."""
    got: list[bytes] = []
    early: list[bytes] = []

    def read() -> None:
        for item in iterator:
            got.append(item)
        early.extend(iterator)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got, bool(early)


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_threads_that_share_an_iterator_get_each_item_once(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "many"
    items = [b"%06d" % number + b"x" * 8185 + b"\n" for number in range(2000)]
    path.write_bytes(b"".join(items))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with faultin.open(path, backend=backend) as map:  # type: ignore[arg-type]
            for _ in range(5):
                got, early = _in_threads(map.chunks(8192))
                assert sorted(got) == items and not early
                got, early = _in_threads(map.lines())
                assert sorted(got) == items and not early
    finally:
        sys.setswitchinterval(interval)


def test_what_can_be_opened(data: Path, tmp_path: Path) -> None:
    with open(data, "rb") as file, faultin.open(file) as by_file, faultin.open(file.fileno()) as by_number:
        assert by_file.name == str(data) and by_number.name is None
        assert len(by_file) == len(by_number) == 1 << 20
        # The caller's descriptor, and its position, stay the caller's.
        assert file.tell() == 0
    with pytest.raises(FileNotFoundError) as error:
        faultin.open(tmp_path / "none")
    assert error.value.filename == str(tmp_path / "none") and error.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError):
        faultin.open(tmp_path)
    with pytest.raises(ValueError, match="watch"):
        faultin.open(data, watch="everything")  # type: ignore[arg-type]


def test_paths_are_taken_as_bytes_too(data: Path) -> None:
    class Path:
        def __fspath__(self) -> bytes:
            return os.fsencode(data)

    odd = os.fsencode(data.with_name("name")) + b"\xff"
    data.with_name("other").write_bytes(b"odd")
    os.rename(data.with_name("other"), odd)
    for path in (os.fsencode(data), Path()):
        with faultin.open(path) as map:
            assert map.name == str(data) and map[:1] == b"\1"
    with faultin.open(odd) as map, open(odd, "rb") as file, faultin.open(file) as by_file:
        assert map.name == by_file.name == os.fsdecode(odd) and map[:] == by_file[:] == b"odd"
        assert pickle.loads(pickle.dumps(map))[:] == b"odd"
    for nul in ("a\0b", b"a\0b"):
        with pytest.raises(ValueError, match="null byte"):
            faultin.open(nul)
    with pytest.raises(TypeError):
        faultin.open(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_what_is_no_file_to_read_is_an_error_at_once(data: Path, tmp_path: Path, backend: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    ends = os.pipe()
    for other in (tmp_path / "fifo", tmp_path / "socket", "/dev/null", ends[0], listener.fileno()):
        with pytest.raises(faultin.FaultError) as error:
            faultin.open(other, backend=backend)
        assert error.value.cause == "not-a-file" and error.value.errno == errno.ESPIPE, other
    listener.close()
    for end in ends:
        os.close(end)
    for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_PATH):
        fd = os.open(data, flags)
        with pytest.raises(OSError, match="not open for reading") as refused:
            faultin.open(fd, backend=backend)
        assert refused.value.errno == errno.EBADF
        os.close(fd)


def test_in_finds_bytes_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"hello abc\nmore\n")
    with faultin.open(path) as map:
        assert b"abc" in map and b"c\nm" in map and b"" in map and ord("h") in map and bytearray(b"more") in map
        assert b"abd" not in map and 0 not in map
        with pytest.raises(ValueError):
            256 in map
        with pytest.raises(TypeError):
            "abc" in map  # type: ignore[operator]


def test_a_map_is_pickled_by_its_path(data: Path) -> None:
    with faultin.open(data, watch="contents") as map, pickle.loads(pickle.dumps(map)) as copy:
        assert copy.name == map.name and copy.watch == "contents" and copy[:4] == b"\1\1\1\1"
    with open(data, "rb") as file, faultin.open(file.fileno()) as map, pytest.raises(TypeError, match="path"):
        pickle.dumps(map)
    error = faultin.DamagedError(5, "text", "name", offset=1, done=2, cause="io", ranges=[(1, 2)])
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.errno, copied.filename, copied.offset, copied.done, copied.cause, copied.ranges) == (
        5, "name", 1, 2, "io", [(1, 2)],
    )  # fmt: skip
    assert isinstance(copied, OSError) and str(copied) == str(error)


def test_changes_are_errors_in_the_mode_that_was_asked_for(data: Path) -> None:
    with faultin.open(data) as reader, faultin.open(data, watch="contents") as contents:
        with open(data, "ab") as file:
            file.write(b"more")
        assert reader[:2] == b"\1\1"
        with pytest.raises(faultin.FaultError) as error:
            contents[:2]
        assert error.value.cause == "grown"
        assert reader.refresh() == contents.refresh() == "grown"
        assert contents[-4:] == b"more" and contents.refresh() is None
        contents.verify()
        os.replace(data, data.with_name("other"))
        data.write_bytes(b"new")
        with pytest.raises(faultin.FaultError) as error:
            reader.verify()
        assert error.value.cause == "replaced"


def test_a_guard_turns_lost_pages_into_zeros_and_an_error(data: Path) -> None:
    with open(data, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with faultin.guard(mapping) as same:
        assert same is mapping and bytes(mapping[:4]) == b"\1\1\1\1"
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(mapping):
        os.truncate(data, PAGE + 100)
        found = [match.start() for match in re.finditer(rb"\0", mapping)]
    assert found == list(range(PAGE + 100, 1 << 20))
    damage = error.value
    assert damage.ranges == [(PAGE + 100, 1 << 20)] and damage.cause == "truncated" and damage.filename == str(data)
    assert damage.offset == damage.done == PAGE + 100 and damage.errno == errno.ESTALE
    # The file's pages are back: they are what the file has now.
    data.write_bytes(b"\2" * (1 << 20))
    age(data)
    with faultin.guard(mapping):
        assert mapping.find(b"\0") == -1 and mapping[PAGE + 100] == 2
    assert faultin.status().guards == 0


def test_a_guard_reports_all_files_that_are_damaged(data: Path, tmp_path: Path) -> None:
    paths = [data, tmp_path / "second", tmp_path / "third"]
    for path in paths[1:]:
        path.write_bytes(b"\1" * (1 << 20))
        age(path)
    mappings = []
    for path in (*paths, data):
        with open(path, "rb") as file:
            mappings.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    view = memoryview(mappings[3])[8 * PAGE : 16 * PAGE]
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(view, *mappings[:3]):
        os.truncate(data, 10 * PAGE)
        os.truncate(paths[2], PAGE)
    damage = error.value
    assert damage.filename == str(data) and damage.ranges == [(10 * PAGE, 1 << 20)] and damage.done == 10 * PAGE
    assert [(other.filename, other.ranges) for other in damage.others] == [(str(paths[2]), [(PAGE, 1 << 20)])]
    assert str(paths[2]) in damage.__notes__[0]
    copied = pickle.loads(pickle.dumps(damage))
    assert copied.others[0].ranges == [(PAGE, 1 << 20)] and copied.__notes__ == damage.__notes__


#: Two file systems that number their files alike; the first file of the one is open, that of the other is mapped.
TWINS = "mkdir {0}/a {0}/b && mount -t tmpfs a {0}/a && mount -t tmpfs b {0}/b"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_guard_watches_the_file_of_its_own_file_system(
    namespace: Callable[..., str], tmp_path: Path, is_deleted: bool
) -> None:
    printed = namespace(
        TWINS.format(tmp_path),
        f"""
        import faultin, mmap, os, sys, time
        paths = [sys.argv[1] + name for name in ("/a/decoy", "/b/file")]
        for path in paths:
            with open(path, "wb") as file:
                file.write(b"x" * 10000)
        time.sleep(0.03)
        assert os.stat(paths[0]).st_ino == os.stat(paths[1]).st_ino
        decoy = open(paths[0], "rb")
        file = open(paths[1], "r+b")
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        assert decoy.fileno() < file.fileno()
        if {is_deleted}:
            os.unlink(paths[1])
        for _ in range(2):
            try:
                with faultin.guard(mapping):
                    os.pwrite(file.fileno(), b"other", 0)
            except faultin.DamagedError as error:
                print(error.cause, error.filename == paths[1])
            time.sleep(0.03)
        with faultin.guard(mapping):
            os.utime(paths[0])
        """,
        tmp_path,
    )
    assert printed == "rewritten True\n" * 2


def test_a_bus_error_is_explained_by_the_file_of_its_own_file_system(
    in_namespace: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A file that has no name any more, beside an open one with its number."""
    died = in_namespace(
        TWINS.format(tmp_path),
        """
        import faultin, mmap, os, sys
        paths = [sys.argv[1] + name for name in ("/a/decoy", "/b/file")]
        for path in paths:
            with open(path, "wb") as file:
                file.write(b"x" * 70000)
        decoy = open(paths[0], "rb")
        file = open(paths[1], "r+b")
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os.unlink(paths[1])
        os.ftruncate(file.fileno(), 100)
        faultin.explain()
        mapping[69000]
        """,
        tmp_path,
    )
    assert died.returncode in (-signal.SIGBUS, 128 + signal.SIGBUS), (died.returncode, died.stderr)
    assert "past the end of the file: it has 100 bytes" in died.stderr, died.stderr


def test_a_guard_that_ends_leaves_no_protection_behind(data: Path) -> None:
    dies(
        """
        import faultin, mmap, os, sys
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        try:
            with faultin.guard(mapping):
                os.truncate(sys.argv[1], 0)
                assert not any(mapping)
        except faultin.DamagedError:
            pass
        mapping[0]
        """,
        data,
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [("touch", "may have read mixed data"), ("truncate", "may have read zeros"), ("read", "; the block has read zeros")],
)
def test_a_guard_says_what_the_block_has_read_as_far_as_it_knows(data: Path, change: str, text: str) -> None:
    with open(data, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with pytest.raises(faultin.DamagedError, match=text), faultin.guard(mapping):
        if change == "touch":
            os.utime(data)
        else:
            os.truncate(data, 1 << 19)
        if change == "read":
            assert mapping[-1] == 0


@pytest.mark.parametrize("filter", ["always", "error"])
def test_a_guard_that_nobody_ends_warns_of_its_zeros(data: Path, filter: str) -> None:
    result = run(
        f"""
        import faultin, gc, mmap, os, sys, warnings
        warnings.simplefilter("{filter}")
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        def unended(truncates):
            guard = faultin.guard(mapping)
            guard.__enter__()
            if truncates:
                os.truncate(sys.argv[1], 10)
            return mapping[100_000]
        unended(False)
        print("none", file=sys.stderr, flush=True)
        assert unended(True) == 0
        try:
            raise KeyError(unended(True))
        except KeyError:
            pass
        assert faultin.status().guards == 0
        """,
        data,
    )
    before, _, after = result.stderr.partition("none\n")
    assert result.returncode == 0 and not before and after.count("ResourceWarning: a guard was dropped") == 2, result
    assert str(data) in after


def test_a_guard_refuses_what_it_cannot_guard(data: Path) -> None:
    with open(data, "r+b") as file:
        writable = mmap.mmap(file.fileno(), 0)
    with pytest.raises(ValueError, match="writable shared"), faultin.guard(writable):
        pass
    with pytest.raises(ValueError, match="not a mapping of a file"), faultin.guard(bytearray(100_000)):
        pass
    with pytest.raises(TypeError):
        with faultin.guard(object()):
            pass
    with pytest.raises(TypeError):
        faultin.guard()
    with faultin.open(data) as map, pytest.raises(TypeError, match="needs no guard"), faultin.guard(map):
        pass
    assert faultin.status().guards == 0


def test_shared_memory_is_reserved_or_an_error(small_shm: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    died = small_shm(
        """
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=4 << 20)
        memory.buf[:] = bytes(4 << 20)
        """
    )
    assert died.returncode in (-signal.SIGBUS, 128 + signal.SIGBUS), (died.returncode, died.stderr)
    lived = small_shm(
        """
        import errno, faultin, os
        try:
            faultin.SharedMemory(create=True, size=4 << 20)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            print(error)
        assert not os.listdir("/dev/shm")
        memory = faultin.SharedMemory(create=True, size=1 << 19)
        memory.buf[:] = b"x" * (1 << 19)
        other = faultin.SharedMemory(memory.name)
        assert bytes(other.buf[:3]) == b"xxx" and other.size >= 1 << 19
        other.close(), memory.close(), memory.unlink()
        """
    )
    assert lived.returncode == 0, lived.stderr
    assert "4 MiB of shared memory do not fit in /dev/shm (1 MiB, " in lived.stdout and "'/dev/shm/psm_" in lived.stdout


def test_a_bus_error_is_explained_before_the_process_dies(data: Path) -> None:
    script = """
        import faulthandler, faultin, mmap, os, sys
        {}
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os.truncate(sys.argv[1], 100)
        mapping[70000]
        """
    setups = [
        "faultin.explain()",
        "faulthandler.enable(); faultin.explain()",
        "faultin.explain(traceback=False); faulthandler.enable()",
        "faultin.install(); faultin.explain()",
        "faultin.explain(); faultin.install()",
        "faultin.explain(); faultin.explain()",
        "faulthandler.enable(); faultin.install(); faultin.explain(); faultin.open(sys.argv[1], backend='mapping').read()",
    ]
    for setup in setups:
        with open(data, "r+b") as file:
            file.truncate(1 << 20)
        died = dies(script.format(setup), data)
        line = f"load at byte 70000 of {data}: past the end of the file: it has 100 bytes (mapped up to byte 1048576)"
        lines = [line for line in died.stderr.splitlines() if line.startswith("faultin: ")]
        assert len(lines) == 1 and (line in lines[0] or line.replace("load", "access") in lines[0]), (setup, died.stderr)
        assert died.stderr.count("Fatal Python error: Bus error") == 1, (setup, died.stderr)
        assert 'File "<string>", line ' in died.stderr
    with open(data, "r+b") as file:
        file.truncate(1 << 20)
    died = dies(script.format("faultin.explain(traceback=False)"), data)
    assert died.stderr.count("\n") == 1, died.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_meets_a_fault_reports_it_to_its_parent(data: Path, method: str) -> None:
    with faultin.open(data) as map, multiprocessing.get_context(method).Pool(1) as pool:
        # By a pickled map: the worker opens the file again.
        assert pool.apply(_read_all, (map, 0)) == 1 << 20
        with pytest.raises(faultin.FaultError) as error:
            pool.apply(_read_all, (map, 3))
    assert error.value.cause == "truncated" and error.value.filename == str(data) and error.value.done == 3


def _read_all(map: faultin.FileMap, size: int) -> int:
    buffer = bytearray(len(map))
    if size and map.name:
        os.truncate(map.name, size)
    return map.readinto(buffer)


def test_importing_it_in_another_interpreter_is_an_error() -> None:
    result = run(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import faultin
        number = interpreters.create()
        try:
            print(interpreters.run_string(number, "import faultin"))
        except Exception as error:
            print(error)
        """
    )
    assert result.returncode == 0 and "subinterpreter" in result.stdout + result.stderr, result


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
