"""`faultin.open` with numpy and PyTorch, in threads and loops that last."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, age, need, prints

import faultin

np = need("numpy")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 256 gibibytes, without the disk space: nothing reads all of it within a test."""
    path = tmp_path_factory.mktemp("large") / "file"
    with open(path, "wb") as file:
        file.truncate(256 << 30)
    return path


@pytest.mark.parametrize("backend", ["pread", "mapping"])
@pytest.mark.parametrize(
    "operation",
    [
        "map.readinto(buffer)",
        "next(chunks)",
        "for line in map.lines(): pass",
        "map.find(b'none')",
        "map.rfind(b'none')",
        "map.count(b'none')",
        "map.count(b'n')",
        "map.blake3()",
    ],
)
def test_ctrl_c_stops_a_long_operation(large: Path, backend: str, operation: str) -> None:
    """What does not look at signals is ended by SIGPROF, after seconds of processor time. What has memory to fill may reach its end
    before: then the last byte is not the one that was there, or the iterator has no chunk for the next round. (The latency is a
    figure of `bench.py`: a test asserts no time.)"""
    program = f"""
        import faultin, mmap, signal, sys
        map = faultin.open(sys.argv[1], backend=sys.argv[2])
        buffer = mmap.mmap(-1, 2 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer[-1] = 1
        chunks = map.chunks(1 << 30, 0, 1 << 30)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_PROF, 3)
        for _ in range(5):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                {operation}
            except KeyboardInterrupt:
                assert buffer[-1] == 1
            else:
                raise AssertionError("it has ended")
        """
    prints(program, large, backend)


def test_threads_run_while_one_reads(large: Path) -> None:
    with faultin.open(large) as map:
        buffer = np.empty(1 << 28, "u1")
        reader = threading.Thread(target=lambda: map.readinto(buffer))
        reader.start()
        steps = 0
        while reader.is_alive():
            steps += 1
        assert steps > 100


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_arrays_are_filled(data: Path, backend: str) -> None:
    values = np.arange(1 << 17, dtype="f8")
    data.write_bytes(values.tobytes())
    with faultin.open(data, backend=backend) as map:  # type: ignore[arg-type]
        array = np.empty(1 << 17)
        assert map.readinto(array) == 1 << 20
        np.testing.assert_array_equal(array, values)
        assert map.readinto(array[5:10], 80) == 40 and array[5] == 10
        for wrong in (array[::2], b"bytes", 5, np.zeros((4, 4)).T, values[:0].astype("M8[s]").reshape(0, 4)[:, ::2]):
            if isinstance(wrong, np.ndarray) and wrong.size == 0:
                continue
            with pytest.raises((BufferError, TypeError, ValueError)):
                map.readinto(wrong)
        for negative in (lambda: map.readinto(array, -1), lambda: map.read(5, -1), lambda: map.read(5, offset=-(1 << 70))):
            with pytest.raises(ValueError, match="offset must not be negative: -"):
                negative()
        with pytest.raises(OverflowError):
            map.readinto(array, 1 << 70)
        with pytest.raises(TypeError):
            map.readinto(array, "1")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_memory_of_objects_is_refused(data: Path, backend: str) -> None:
    """Bytes of a file in place of a reference end the process when the object is used: so a child does this."""
    printed = prints(
        """
        import ctypes, faultin, numpy as np, sys
        class Fields(ctypes.Structure):
            _fields_ = [("number", ctypes.c_int), ("object", ctypes.py_object)]
        plain = np.dtype([("O", "i4"), ("time", "M8[s]")])
        with faultin.open(sys.argv[1], backend=sys.argv[2]) as map:
            for wrong in (
                np.empty(3, object),
                np.empty(3, [("a", "i4"), ("b", object)]),
                np.empty(3, [("time", "M8[s]"), ("b", object)]),
                np.empty(3, [("a", [("b", object, 2)])]),
                (ctypes.py_object * 3)(),
                Fields(),
            ):
                try:
                    map.readinto(wrong)
                except TypeError as error:
                    assert "Python objects" in str(error), error
                else:
                    raise AssertionError(wrong)
            for right in (np.empty(3, plain), np.empty(3, [("O", "i4")]), np.empty(3, "M8[s]"), np.empty(3, "U4"), (ctypes.c_int * 3)()):
                assert map.readinto(right) == memoryview(right).nbytes if isinstance(right, ctypes.Array) else right.nbytes
        print("well")
        """,
        data,
        backend,
    )
    assert printed == "well\n"


@pytest.mark.parametrize("backend", ["pread", "mapping"])
def test_a_destination_that_fails_is_an_error_too(data: Path, tmp_path: Path, backend: str) -> None:
    """`readinto` a mapping of another file, which is truncated."""
    target = tmp_path / "target"
    target.write_bytes(bytes(1 << 20))
    printed = prints(
        """
        import faultin, numpy as np, os, sys
        target = np.memmap(sys.argv[2], "u1", "r+")
        with faultin.open(sys.argv[1], backend=sys.argv[3]) as map:
            os.truncate(sys.argv[2], 4096)
            try:
                map.readinto(target)
            except faultin.FaultError as error:
                print(error.errno, error.done % 4096, error.cause, "memory that was passed" in str(error))
        """,
        data,
        target,
        backend,
    )
    assert printed == "14 0 memory True\n", printed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "faulthandler.enable()"),
        ("", "faulthandler.enable(); faulthandler.disable()"),
        ("faulthandler.enable()", "faulthandler.disable()"),
        ("", "signal.signal(signal.SIGBUS, signal.SIG_DFL)"),
        ("", "signal.signal(signal.SIGSEGV, signal.SIG_DFL)"),
    ],
)
def test_a_mapped_file_survives_handlers_that_came_later(data: Path, before: str, after: str) -> None:
    """With `"nothing"` no look at the file's size comes before the access: each of these operations meets the fault."""
    printed = prints(
        f"""
        import faulthandler, faultin, os, signal, sys
        faultin.install()

        def again():
            with faultin.open(path, backend="mapping"):
                assert faultin.status().bus == faultin.status().segv == "first"
            map.read()

        def stored():
            with faultin.memmap(other) as array:
                {after}
                os.truncate(other, 100)
                array[...] = 1

        def loaded():
            with faultin.memmap(other) as array:
                {after}
                os.truncate(other, 100)
                array[...]

        operations = [
            lambda: map.readinto(buffer),
            lambda: map.readinto(buffer[:64], 1 << 16),
            lambda: map.read(),
            lambda: map[:],
            lambda: map[-1],
            lambda: list(chunks),
            lambda: list(lines),
            lambda: map.find(b"none"),
            lambda: map.rfind(b"none"),
            lambda: map.count(b"none"),
            lambda: b"none" in map,
            lambda: map.blake3(),
            lambda: reader.read(),
            again,
            stored,
            loaded,
        ]
        path, other = sys.argv[1], sys.argv[1] + "2"
        faults = 0
        for number, operation in enumerate(operations):
            for name in (path, other):
                with open(name, "wb") as file:
                    file.write(b"1" * 99 + b"\\n" + b"1" * (1 << 20))
            {before or "pass"}
            with faultin.open(path, watch="nothing", backend="mapping") as map:
                buffer = memoryview(bytearray(len(map)))
                chunks, lines, reader = map.chunks(), map.lines(), map.reader()
                next(lines)
                {after}
                os.truncate(path, 100)
                try:
                    operation()
                except (OSError, EOFError, IndexError):
                    faults += 1
                state = faultin.status()
                # (A mapped file has no other faults; the next one that is opened looks at both.)
                assert state.bus == "first", (number, state)
        print(faultin.status().recovered > 10, faults > 10)
        """,
        data,
    )
    assert printed == "True True\n"


def test_a_handler_that_comes_during_a_long_operation(large: Path) -> None:
    """Each piece is preceded by a look at the handlers, and the search ends with the file."""
    printed = prints(
        """
        import faulthandler, faultin, signal, sys
        map = faultin.open(sys.argv[1], backend="mapping")
        states = []
        class Enough(Exception): pass
        def again():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        def alarm(*_):
            states.append(faultin.status().bus)
            if len(states) > 5:
                raise Enough
            faulthandler.enable() if len(states) % 2 else faulthandler.disable()
            again()
        signal.signal(signal.SIGALRM, alarm)
        again()
        try:
            map.count(b"none")
        except Enough:
            print(states)
        """,
        large,
    )
    assert printed == f"{['first'] * 6}\n"


def test_a_loader_with_workers_reports_a_truncated_file(tmp_path: Path) -> None:
    need("torch")
    path = tmp_path / "samples"
    program = """
        import faultin, numpy as np, os, sys, torch
        from torch.utils.data import DataLoader, Dataset

        class Samples(Dataset):
            def __init__(self, path, safe):
                self.file = faultin.open(path) if safe else np.memmap(path, "f4", "r").reshape(-1, 1024)
            def __len__(self):
                return 256
            def __getitem__(self, index):
                if index == 100:
                    os.truncate(sys.argv[1], 8192)
                if isinstance(self.file, faultin.FileMap):
                    sample = torch.empty(1024)
                    if self.file.readinto(sample, index * 4096) != 4096:
                        raise EOFError(f"sample {index} is missing")
                    return sample
                return torch.from_numpy(self.file[index].copy())

        if __name__ == "__main__":
            loader = DataLoader(Samples(sys.argv[1], sys.argv[2] == "faultin"), batch_size=8, num_workers=2)
            try:
                for batch in loader:
                    assert bool((batch == 1).all())
            except faultin.FaultError as error:
                print("FaultError", error.cause)
            except Exception as error:
                print(type(error).__name__, error)
        """
    for kind, expected in (("original", "bus error"), ("faultin", "truncated")):
        path.write_bytes(np.ones(256 * 1024, "f4").tobytes())
        age(path)
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(program))
        result = subprocess.run(
            [sys.executable, str(script), str(path), kind], capture_output=True, text=True, timeout=300 * PATIENCE
        )
        assert result.returncode == 0, result
        assert expected in result.stdout + result.stderr, (kind, result)
        if kind == "faultin":
            assert "bus error" not in result.stderr and "truncated" in result.stdout, result


def test_a_hostile_process_and_every_operation(data: Path) -> None:
    """Whatever happens to the file: a result, or a FaultError. The file never has a zero, but `pread` returns some that a truncation
    puts into a page while it copies; `watch="reader"` is no better than that."""
    size = 1 << 20
    stop = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, random, sys\n"
            "file = os.open(sys.argv[1], os.O_RDWR)\n"
            "while True:\n"
            f"    os.ftruncate(file, random.randrange({size}))\n"
            f"    os.pwrite(file, b'\\1' * {size}, 0)\n",
            str(data),
        ]
    )
    counts = {"done": 0, "failed": 0}
    try:
        for backend, watch in itertools.product(("pread", "mapping"), ("reader", "contents")):
            end = time.monotonic() + 3
            array = np.empty(size, "u1")
            while time.monotonic() < end:
                with faultin.open(data, backend=backend, watch=watch) as map:  # type: ignore[arg-type]
                    for operation in (
                        lambda: array[: map.readinto(array)].min(),
                        lambda: 1 if map.find(b"\0") < 0 else 0,
                        lambda: min(map[size // 2 :], default=1),
                        lambda: min(min(chunk) for chunk in map.chunks(10_000)) if len(map) else 1,
                    ):
                        try:
                            assert operation() == 1 or watch == "reader"
                            counts["done"] += 1
                        except faultin.FaultError:
                            counts["failed"] += 1
    finally:
        stop.send_signal(signal.SIGKILL)
        stop.wait()
    assert counts["done"] > 10 and counts["failed"] > 10, counts
