"""`faultin.safetensors`, beside the package of that name."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import age, dies, need, prints

import faultin
import faultin.safetensors

np = need("numpy")
original: Any = need("safetensors")
from safetensors.numpy import save_file  # noqa: E402


def tensors() -> dict[str, Any]:
    generator = np.random.default_rng(7)
    kinds = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]
    made = {f"of {kind}": generator.integers(0, 100, (5, 7)).astype(kind) for kind in kinds}
    return made | {"none": np.empty((0, 3), "f4"), "one": np.array(5, "f4"), "large": generator.random(300_000)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(tensors(), path, metadata={"format": "np", "who": "tests"})
    age(path)
    return path


def test_it_loads_what_the_package_loads(model: Path) -> None:
    from safetensors.numpy import load_file

    loaded, expected = faultin.safetensors.load_file(model, framework="numpy"), load_file(model)
    assert loaded.keys() == expected.keys() == tensors().keys()
    for name, tensor in expected.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape and loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], tensor)
    assert faultin.safetensors.load_metadata(model) == {"format": "np", "who": "tests"}


def test_a_large_tensor_stays_when_all_others_are_dropped(tmp_path: Path) -> None:
    made = np.arange(1_000_001, dtype="f8")
    save_file({"a": made, "b": np.ones(3, "u1"), "c": made[::-1].copy()}, path := tmp_path / "model")
    age(path)
    kept = faultin.safetensors.load_file(path, framework="numpy")["c"]
    kept[0] += 1
    assert kept.sum() == made.sum() + 1 and kept.flags.aligned and kept[-1] == 0


def test_it_loads_the_types_that_numpy_lacks(tmp_path: Path) -> None:
    ml_dtypes = need("ml_dtypes")
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x80\x3f\x00\x40")
    loaded = faultin.safetensors.load_file(path, framework="numpy")
    assert loaded["a"].dtype == ml_dtypes.bfloat16 and loaded["a"].astype("f4").tolist() == [1.0, 2.0]  # type: ignore[attr-defined]


def test_it_loads_tensors_of_pytorch(tmp_path: Path) -> None:
    torch: Any = need("torch")
    import safetensors.torch

    path = tmp_path / "model"
    kinds = [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool, torch.uint8, torch.float8_e4m3fn]
    made = {str(kind): torch.arange(12).reshape(3, 4).to(kind) for kind in kinds} | {"one": torch.tensor(5.0)}
    safetensors.torch.save_file(made, path)
    loaded = faultin.safetensors.load_file(path)
    for name, tensor in made.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert bytes(loaded[name].reshape(-1).view(torch.uint8).numpy()) == bytes(tensor.reshape(-1).view(torch.uint8).numpy())
    # The tensors are the caller's: the file may go.
    os.truncate(path, 0)
    assert float(loaded["one"]) == 5.0
    with faultin.open(path.with_name("model")) as map:
        target = torch.ones(4, 5)
        assert map.readinto(target) == 0
    path.write_bytes(np.arange(20, dtype="f4").tobytes())
    with faultin.open(path) as map:
        assert map.readinto(target) == 80 and target.flatten().tolist() == list(range(20))
        with pytest.raises(BufferError):
            map.readinto(target.T)


def test_truncated_while_in_use(model: Path) -> None:
    dies(
        """
        import os, safetensors, sys
        with safetensors.safe_open(sys.argv[1], framework="np") as file:
            os.truncate(sys.argv[1], 100_000)
            file.get_tensor("large").sum()
        """,
        model,
    )
    save_file(tensors(), model)
    printed = prints(
        """
        import faultin.safetensors, os, sys
        loaded = faultin.safetensors.load_file(sys.argv[1])
        os.truncate(sys.argv[1], 100_000)
        print(100_000 < loaded["large"].sum() < 200_000)
        """,
        model,
    )
    assert printed == "True\n"
    with pytest.raises(faultin.FaultError) as error:
        faultin.safetensors.load_file(model, framework="numpy", retries=1, delay=0)
    assert error.value.cause == "past-end" and error.value.offset == 100_000 and "incomplete" in str(error.value)


@pytest.mark.parametrize("change", ["truncate", "rewrite", "replace"])
def test_a_change_during_the_load_is_an_error_or_another_attempt(tmp_path: Path, change: str, monkeypatch: Any) -> None:
    path, other = tmp_path / "model", tmp_path / "other"
    monkeypatch.setattr(faultin.safetensors, "_STEP", 4096)
    size = 20_000
    save_file({"a": np.full(size, 1, "u1"), "b": np.full(size, 1, "u1")}, path)
    save_file({"a": np.full(size, 2, "u1"), "b": np.full(size, 2, "u1")}, other)
    age(path), age(other)
    changed: list[int] = []

    def progress(done: int, total: int) -> None:
        if changed and "once" not in words:
            return
        changed.append(done)
        if len(changed) > 1:
            return
        if change == "truncate":
            os.truncate(path, 30_000)
        elif change == "rewrite":
            path.write_bytes(other.read_bytes())
        else:
            other.rename(path)

    words: set[str] = set()
    with pytest.raises(faultin.FaultError) as error:
        faultin.safetensors.load_file(path, framework="numpy", retries=0, progress=progress)
    # (A rename over the file takes a name from it, which moves the change time, as attributes do.)
    expected = {"truncate": ["truncated"], "rewrite": ["rewritten"], "replace": ["replaced", "touched"]}[change]
    assert error.value.cause in expected
    if change == "truncate":
        return
    changed.clear()
    save_file({"a": np.full(size, 1, "u1"), "b": np.full(size, 1, "u1")}, path)
    save_file({"a": np.full(size, 2, "u1"), "b": np.full(size, 2, "u1")}, other)
    age(path), age(other)
    loaded = faultin.safetensors.load_file(path, framework="numpy", retries=3, delay=0.01, progress=progress)
    assert loaded["a"].tolist() == loaded["b"].tolist() == [2] * size, "never a mixture"


def test_a_file_that_is_being_written_is_awaited(model: Path, tmp_path: Path) -> None:
    content, path = model.read_bytes(), tmp_path / "slow"
    path.write_bytes(content[:5])

    def write() -> None:
        with open(path, "r+b") as file:
            for end in (100, 5000, len(content) // 2, len(content)):
                time.sleep(0.1)
                file.write(content[file.tell() : end])
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    loaded = faultin.safetensors.load_file(path, framework="numpy", retries=20, delay=0.05)
    thread.join()
    np.testing.assert_array_equal(loaded["large"], tensors()["large"])


@pytest.fixture
def leases(tmp_path: Path, skip: Callable[[str, str], None]) -> None:
    """Skips the test where the file system has no leases."""
    path = tmp_path / "probe"
    path.write_bytes(b"")
    with open(path, "rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            skip("lease", str(error))


@pytest.mark.usefixtures("leases")
@pytest.mark.parametrize("how", ["truncate", "allocate", "mapping"])
def test_a_file_of_its_size_that_is_half_written_is_never_loaded(model: Path, tmp_path: Path, how: str) -> None:
    """The writer is another process, which stops half way for as long as this one asks."""
    path = tmp_path / "slow"
    script = """
        import mmap, os, sys
        content = open(sys.argv[1], "rb").read()
        file = open(sys.argv[2], "w+b", buffering=0)
        if sys.argv[3] == "allocate":
            os.posix_fallocate(file.fileno(), 0, len(content))
        else:
            os.truncate(file.fileno(), len(content))
        half = len(content) // 2
        if sys.argv[3] == "mapping":
            memory = mmap.mmap(file.fileno(), 0)
            file.close()
            memory[:half] = content[:half]
        else:
            file.write(content[:half])
        print("half", flush=True)
        sys.stdin.readline()
        if sys.argv[3] == "mapping":
            memory[half:] = content[half:]
            memory.close()
        else:
            file.write(content[half:])
            file.close()
        print("whole", flush=True)
        sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(model), str(path), how]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None and writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    age(path)
    for retries in (0, 2):
        with pytest.raises(faultin.FaultError, match="open for writing") as error:
            faultin.safetensors.load_file(path, framework="numpy", retries=retries, delay=0.01)
        assert error.value.errno == errno.EBUSY and error.value.cause == "being-written"
        assert error.value.filename == str(path)
    # While it is awaited, the writer ends.
    waiting = threading.Timer(0.3, lambda: (writer.stdin.write("\n"), writer.stdin.flush()))  # type: ignore[union-attr]
    waiting.start()
    loaded = faultin.safetensors.load_file(path, framework="numpy", retries=1000, delay=0.01)
    np.testing.assert_array_equal(loaded["large"], tensors()["large"])
    writer.communicate("\n")


@pytest.mark.usefixtures("leases")
def test_a_writer_of_the_same_process_counts(model: Path) -> None:
    with open(model, "r+b"):
        with pytest.raises(faultin.FaultError) as error:
            faultin.safetensors.load_file(model, framework="numpy", retries=0)
        assert error.value.cause == "being-written"
        loaded = faultin.safetensors.load_file(model, framework="numpy", retries=0, allow_writers=True)
        np.testing.assert_array_equal(loaded["large"], tensors()["large"])
    assert faultin.safetensors.load_file(os.fsencode(model), framework="numpy", retries=0)


@pytest.mark.usefixtures("leases")
def test_a_writer_that_comes_during_the_load_is_noticed(model: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(faultin.safetensors, "_STEP", 4096)
    age(model)
    writers: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not writers:
            writers.append(open(model, "r+b"))  # noqa: SIM115

    with pytest.raises(faultin.FaultError) as error:
        faultin.safetensors.load_file(model, framework="numpy", retries=0, progress=progress)
    assert error.value.cause == "being-written"
    writers[0].close()


@pytest.mark.usefixtures("leases")
def test_asking_for_writers_leaves_no_trace(model: Path) -> None:
    """A process that opens the file to write meanwhile is not held, and its opening ends nobody."""
    writer = """
        import os, sys
        for _ in range(1000):
            os.close(os.open(sys.argv[1], os.O_WRONLY))
    """
    printed = prints(
        """
        import faultin, os, subprocess, sys
        from faultin import _native
        def descriptors():
            return len(os.listdir("/proc/self/fd"))
        with faultin.open(sys.argv[1]) as map:
            assert not _native.is_being_written(map)
            before = descriptors()
            with open(sys.argv[1], "r+b"):
                assert _native.is_being_written(map)
            with subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]]) as writer:
                while writer.poll() is None:
                    _native.is_being_written(map)
            assert writer.returncode == 0
            assert not _native.is_being_written(map)
            assert descriptors() == before
            # While there is a lease, this is refused.
            os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK))
        print("well")
        """,
        model,
        textwrap.dedent(writer),
    )
    assert printed == "well\n"


def test_a_file_of_zeros_is_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    for content in (bytes(1 << 20), struct.pack("<Q", 100) + bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(faultin.FaultError, match="not written yet") as error:
            faultin.safetensors.load_file(path, framework="numpy", retries=0)
        assert error.value.errno == errno.ENODATA and error.value.cause == "past-end"


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model"
    header = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'

    def file(text: bytes = header, data: bytes = b"abcd", length: int | None = None) -> bytes:
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def load(content: bytes) -> dict[str, Any]:
        path.write_bytes(content)
        return faultin.safetensors.load_file(path, framework="numpy", retries=0)

    assert load(file())["a"].tolist() == list(b"abcd")
    for content in (b"", b"abc", file()[:-1], file()[:20], file(b"\0" * 50), file(length=10_000)):
        with pytest.raises(faultin.FaultError) as error:
            load(content)
        assert error.value.errno == errno.ENODATA and error.value.cause == "past-end"
    broken = [
        file(b"{", b""),
        file(b"[]", b""),
        file(header.replace(b"U8", b"F9")),
        file(header.replace(b"[4]", b"[5]")),
        file(header.replace(b"[0,4]", b"[1,5]"), b"abcde"),
        file(header.replace(b"[0,4]", b"[4,0]")),
        file(header.replace(b"[4]", b"[4611686018427387904,4]")),
        file(data=b"abcde"),
        file(b"\xff" * 5),
        file(length=1 << 40),
        file(length=(1 << 64) - 1),
    ]
    for content in broken:
        with pytest.raises(faultin.safetensors.FormatError, match=str(path)):
            load(content)
    with pytest.raises(FileNotFoundError):
        faultin.safetensors.load_file(tmp_path / "none")


def test_progress_and_what_temporary_errors_do(model: Path, monkeypatch: Any) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(faultin.safetensors, "_STEP", 100_000)
    faultin.safetensors.load_file(model, framework="numpy", progress=lambda done, total: seen.append((done, total)))
    total = seen[-1][1]
    assert seen[-1] == (total, total) and len(seen) > 20 and seen == sorted(seen)

    failures = [errno.EIO, errno.ESTALE]
    read = faultin.safetensors._Load.read

    class Failing:
        """A map whose reads fail at first, half way."""

        def __init__(self, map: faultin.FileMap) -> None:
            self.map = map

        def readinto(self, buffer: memoryview, offset: int) -> int:
            if failures and len(buffer) > 1000:
                self.map.readinto(buffer[:500], offset)
                raise faultin.FaultError(failures.pop(), "a failure", "name", offset=offset + 500, done=500, cause="io")
            return self.map.readinto(buffer, offset)

    def failing(self: Any, map: Any, part: memoryview, at: int) -> None:
        read(self, Failing(map), part, at)  # type: ignore[arg-type]

    monkeypatch.setattr(faultin.safetensors._Load, "read", failing)
    loaded = faultin.safetensors.load_file(model, framework="numpy", retries=2, delay=0)
    np.testing.assert_array_equal(loaded["large"], tensors()["large"])
    failures += [errno.EIO] * 3
    with pytest.raises(faultin.FaultError, match="a failure"):
        faultin.safetensors.load_file(model, framework="numpy", retries=2, delay=0)
    failures[:] = [errno.EACCES]
    with pytest.raises(faultin.FaultError, match="a failure"):
        faultin.safetensors.load_file(model, framework="numpy", retries=2, delay=0)
