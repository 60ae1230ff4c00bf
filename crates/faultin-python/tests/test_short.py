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
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
