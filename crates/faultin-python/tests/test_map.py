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
        with pytest.raises(OverflowError):
            map.readinto(array, -1)


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
                print(error.errno in (5, 14), error.done)
        """,
        data,
        target,
        backend,
    )
    assert printed.startswith("True "), printed


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
