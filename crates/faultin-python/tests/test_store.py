"""`faultin.memmap` and `faultin.SharedMemory`."""

from __future__ import annotations

import multiprocessing
import multiprocessing.shared_memory
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import need

import faultin

np = need("numpy")

Small = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    "index",
    [
        ...,
        3,
        (2, 3, 4),
        (slice(1, 4), slice(None), 2),
        (-1, ..., slice(None, None, 2)),
        (slice(None, None, -2),),
        (..., 0),
        (slice(2, 2), 1),
        (slice(1, 3),),
        (1, slice(2, 4)),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">i8", "M8[s]", "S3"])
def test_stores_and_loads_are_those_of_numpy(tmp_path: Path, index: object, dtype: str) -> None:
    path, shape = tmp_path / "array", (5, 6, 7)
    values = np.arange(5 * 6 * 7).astype("i8" if dtype[0] == "M" else "u1").astype(dtype).reshape(shape)
    with faultin.memmap(path, dtype, "w+", offset=3, shape=shape) as array:
        assert array.shape == shape and array.size == 210 and array.nbytes == 210 * values.itemsize and len(array) == 5
        array.copyfrom(values)
        expected = values.copy()
        np.testing.assert_array_equal(array[index], values[index])
        flipped = np.flip(np.asarray(values[index]))
        array[index] = flipped
        expected[index] = flipped
        np.testing.assert_array_equal(array.load(), expected)
        array.store(index, values[index])
        expected[index] = values[index]
        array[index] = values.flat[9]
        expected[index] = values.flat[9]
        np.testing.assert_array_equal(array.load(), expected)
        np.testing.assert_array_equal(np.asarray(array), expected)
    np.testing.assert_array_equal(np.memmap(path, dtype, "r", offset=3, shape=shape), expected)
    with faultin.memmap(path, dtype, offset=3) as array:
        assert array.shape == (210,)
        np.testing.assert_array_equal(array[5:9], expected.reshape(-1)[5:9])
        array.copyfrom(values.T, 0)
        np.testing.assert_array_equal(array[...], values.T.reshape(-1))


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with faultin.memmap(tmp_path / "array", "u1", "w+", shape=(4, 5)) as array:
        for index in ((4,), (0, 5), (-5,), (0, 0, 0), (None,), (True,), ([1, 2],), (..., ...)):
            with pytest.raises(IndexError):
                array[index]
            with pytest.raises(IndexError):
                array[index] = 1
        with pytest.raises(ValueError):
            array[0] = [1, 2]
        with pytest.raises(IndexError):
            array.copyfrom(np.zeros(21))
        with pytest.raises(IndexError):
            array.copyfrom(np.zeros(5), 16)
    for words in ({"mode": "r"}, {"offset": -1}, {"shape": -1}, {"dtype": "O"}):
        with pytest.raises(ValueError):
            faultin.memmap(tmp_path / "array", **words)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        faultin.memmap(tmp_path / "none", shape=5)


def test_a_file_that_is_truncated_under_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "array"
    for install in ("", "faultin.install()"):
        result = subprocess.run(
            [sys.executable, "-c", f"""
import faultin, os, sys
{install}
array = faultin.memmap(sys.argv[1], "u1", "w+", shape=100_000)
os.truncate(sys.argv[1], 50_000)
try:
    print(array[40_000:60_000])
except (faultin.FaultError, EOFError) as error:
    print("load:", error)
""", str(path)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0 and "load:" in result.stdout, result


def test_a_new_file_on_a_full_disk_says_what_is_free(small_shm: Small) -> None:
    result = small_shm(
        """
        import errno, faultin
        for mode in ("w+", "r+"):
            try:
                faultin.memmap("/dev/shm/file", "f8", mode, shape=(1 << 20,))
            except faultin.FaultError as error:
                assert error.errno == errno.ENOSPC and error.cause == "no-space" and error.filename == "/dev/shm/file"
                assert ("the file exists" in str(error)) == (mode == "w+")
                print(error)
        """
    )
    assert result.returncode == 0, result
    assert result.stdout.count("8 MiB do not fit on the file's disk (1 MiB, ") == 2 and "choose another" in result.stdout


def test_a_path_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with faultin.memmap(os.fsencode(path), "u1", "w+", shape=5) as array:
        array[...] = 1
        assert array.filename == str(path)
    assert path.read_bytes() == b"\1" * 5


def test_a_full_disk_is_an_error_and_not_the_end(small_shm: Small) -> None:
    died = small_shm(
        """
        import numpy as np
        array = np.memmap("/dev/shm/file", "u1", "w+", shape=4 << 20)
        array[:] = 1
        """
    )
    assert died.returncode in (-signal.SIGBUS, 128 + signal.SIGBUS), died
    for install in ("", "faultin.install()"):
        lived = small_shm(
            f"""
            import errno, faultin, numpy as np, os
            {install}
            try:
                faultin.memmap("/dev/shm/file", "u1", "w+", shape=4 << 20)
            except faultin.FaultError as error:
                assert error.errno == errno.ENOSPC and error.cause == "no-space" and error.filename == "/dev/shm/file"
            os.unlink("/dev/shm/file")
            array = faultin.memmap("/dev/shm/file", "u1", "w+", shape=4 << 20, reserve=False)
            array[:1000] = 5
            for store in (lambda: array.store(slice(None), 1), lambda: array.copyfrom(np.ones(4 << 20))):
                try:
                    store()
                except faultin.FaultError as error:
                    assert error.errno == errno.ENOSPC and error.filename == "/dev/shm/file", error
                    # Exactly what is stored.
                    assert (array[: error.done] == 1).all() and error.offset == error.done, (error.offset, error.done)
                    print(0 < error.done <= 1 << 20)
            """
        )
        assert lived.returncode == 0 and lived.stdout == "True\nTrue\n", lived


def test_shared_memory_is_a_drop_in(tmp_path: Path) -> None:
    memory = faultin.SharedMemory(create=True, size=100_000)
    try:
        assert isinstance(memory, multiprocessing.shared_memory.SharedMemory)
        assert memory.size >= 100_000 and len(memory.buf) == memory.size and memory.name.startswith("psm_")
        assert os.stat(f"/dev/shm/{memory.name}").st_blocks * 512 >= 100_000
        array = np.ndarray((100,), "f8", buffer=memory.buf)
        array[:] = 5
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(total, (memory.name,)) == 500
        del array
        for words in ({"create": True, "size": 0}, {"create": True, "size": -1}):
            with pytest.raises(ValueError):
                faultin.SharedMemory(**words)  # type: ignore[arg-type]
        with pytest.raises(FileExistsError):
            faultin.SharedMemory(memory.name, create=True, size=5)
        with pytest.raises(FileNotFoundError):
            faultin.SharedMemory("faultin-none")
    finally:
        memory.close()
        memory.unlink()


def total(name: str) -> float:
    memory = faultin.SharedMemory(name)
    array = np.ndarray((100,), "f8", buffer=memory.buf)
    result = float(array.sum())
    del array
    memory.close()
    return result


def test_workers_that_share_results_in_a_shm_that_is_too_small(small_shm: Small) -> None:
    """pytorch#5040, ray#5543: a data loader's workers return batches in shared memory."""
    program = """
        import multiprocessing, os, sys
        from multiprocessing.shared_memory import SharedMemory
        if sys.argv[1] == "faultin":
            from faultin import SharedMemory

        def batch(number):
            memory = SharedMemory(create=True, size=300_000)
            try:
                memory.buf[:300_000] = bytes([number]) * 300_000
                return memory.name
            finally:
                memory.close()

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            failed = 0
            with context.Pool(2) as pool:
                for number in range(8):
                    try:
                        pool.apply_async(batch, (number,)).get(timeout=5 * int(os.environ.get("FAULTIN_PATIENCE", "1")))
                    except multiprocessing.TimeoutError:
                        print("a worker has died and nobody says so")
                        os._exit(7)
                    except OSError as error:
                        failed += 1
            print("failed:", failed)
        """
    died = small_shm(program, "original")
    assert died.returncode == 7, died
    lived = small_shm(program, "faultin")
    assert lived.returncode == 0 and lived.stdout == "failed: 5\n", lived


def test_reserving_can_be_left_out() -> None:
    memory = faultin.SharedMemory(create=True, size=1 << 20, reserve=False)
    try:
        assert os.stat(f"/dev/shm/{memory.name}").st_blocks == 0
        other = faultin.SharedMemory(memory.name)
        assert os.stat(f"/dev/shm/{memory.name}").st_blocks * 512 == 1 << 20
        other.close()
    finally:
        memory.close()
        memory.unlink()
