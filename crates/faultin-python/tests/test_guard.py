"""`faultin.guard` over numpy, pyarrow and PyTorch, in threads, in children, and beside a hostile process."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PAGE, age, dies, need, prints, run

import faultin

np = need("numpy")

SIZE = 1 << 20


def fill(path: Path, size: int = SIZE) -> None:
    path.write_bytes(b"\1" * size)
    age(path)


def test_reductions_in_four_threads_over_a_truncated_memmap(data: Path) -> None:
    """numpy#21964, and every data loader above it."""
    program = """
        import contextlib, faultin, numpy as np, os, sys, threading
        array = np.memmap(sys.argv[1], mode="r")
        guard = faultin.guard(array) if sys.argv[2] == "guarded" else contextlib.nullcontext()
        barrier = threading.Barrier(5)
        def reduce(step):
            barrier.wait()
            for _ in range(50):
                array[::step].sum(), array[step:].max()
        threads = [threading.Thread(target=reduce, args=(step,)) for step in (1, 2, 3, 4097)]
        try:
            with guard:
                for thread in threads: thread.start()
                barrier.wait()
                os.truncate(sys.argv[1], 300_000)
                for thread in threads: thread.join()
                assert array[300_000:].sum() == 0 and array[:300_000].sum() == 300_000
        except faultin.DamagedError as error:
            print(error.ranges, error.cause)
        """
    dies(program, data, "plain")
    fill(data)
    assert prints(program, data, "guarded") == f"[(300000, {SIZE})] truncated\n"


def test_a_pattern_that_scans_a_truncated_mapping(data: Path) -> None:
    """cpython#148650."""
    program = """
        import contextlib, faultin, mmap, os, re, sys
        with open(sys.argv[1], "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        try:
            with faultin.guard(mapping) if sys.argv[2] == "guarded" else contextlib.nullcontext():
                found = 0
                for match in re.finditer(rb"\\x01{1000}", mapping):
                    found += 1
                    if found == 10:
                        os.truncate(sys.argv[1], 50_000)
        except faultin.DamagedError as error:
            print(found, error.cause, error.ranges[-1][1])
        """
    dies(program, data, "plain")
    fill(data)
    assert prints(program, data, "guarded") == f"50 truncated {SIZE}\n"


@pytest.mark.parametrize("mode", ["r", "c"])
def test_ranges_are_of_the_file_and_only_of_what_was_asked_for(data: Path, mode: str) -> None:
    array = np.memmap(data, mode=mode, offset=100)
    part = array[5 * PAGE : 9 * PAGE]
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(part):
        os.truncate(data, 6 * PAGE)
        assert part.sum() == PAGE - 100
    assert error.value.ranges == [(6 * PAGE, 10 * PAGE)] or error.value.ranges == [(6 * PAGE, 9 * PAGE + 100)]
    assert error.value.offset == 6 * PAGE and error.value.done == PAGE - 100
    # Where the file ends after the guarded part, nothing is damaged, whatever else was lost.
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(array[: 2 * PAGE]):
        os.truncate(data, 5 * PAGE)
    assert error.value.cause == "truncated" and error.value.ranges == [(100, 100 + 2 * PAGE)]
    with faultin.guard(array[: 2 * PAGE], watch="nothing"):
        os.truncate(data, 4 * PAGE)


def test_views_with_strides(data: Path) -> None:
    array = np.memmap(data, mode="r", dtype="<u2").reshape(256, -1)
    for view in (array[::-1], array[:, ::-3], array.T, array[5:9, 7], array[3:3], array.view("M8[ns]")):
        with faultin.guard(view):
            view.sum() if view.dtype.kind != "M" else view.max()
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(array[::-2]):
        os.truncate(data, SIZE // 2)
        assert array[::-2].astype("u8").sum() == 257 * SIZE // 2 // 4
    assert error.value.offset == SIZE // 2


def test_changes_of_a_private_mapping_survive(data: Path) -> None:
    array = np.memmap(data, mode="c")
    array[0] = array[4 * PAGE] = 7
    with pytest.raises(faultin.DamagedError), faultin.guard(array):
        os.truncate(data, 5 * PAGE)
        assert array[8 * PAGE] == 0
        array[8 * PAGE] = 9
        assert array[8 * PAGE] == 9
    assert array[0] == array[4 * PAGE] == 7 and array[1] == 1
    with open(data, "r+b") as file:
        file.truncate(SIZE)
    assert array[8 * PAGE] == 0, "what was stored to a page of zeros is lost with it"


def test_guards_nest_and_each_reports(data: Path) -> None:
    array = np.memmap(data, mode="r")
    errors: list[faultin.DamagedError] = []
    guard = faultin.guard(array)
    try:
        with guard:
            for inner in (guard, faultin.guard(array[: 8 * PAGE]), faultin.guard(array[4 * PAGE : 64 * PAGE], array)):
                try:
                    with inner:
                        os.truncate(data, 6 * PAGE)
                        assert array.sum() == 6 * PAGE
                except faultin.DamagedError as error:
                    errors.append(error)
                # The outer one is still active: its pages are zeros, and no bus error.
                assert array[-1] == 0
    except faultin.DamagedError as error:
        errors.append(error)
    assert [error.offset for error in errors] == [6 * PAGE] * 4
    assert faultin.status().guards == 0


def test_guards_leave_no_descriptors(data: Path) -> None:
    """On a kernel that can be asked about an address (Linux 6.11), and on one that has only the text of /proc/self/maps."""
    array = np.memmap(data, mode="r")

    def descriptors(guards: int) -> int:
        for _ in range(guards):
            with faultin.guard(array):
                assert array[0] == 1
        return len(os.listdir("/proc/self/fd"))

    assert descriptors(1) == descriptors(20)


def test_a_guard_keeps_its_mapping(data: Path) -> None:
    with open(data, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with faultin.guard(mapping):
        with pytest.raises(BufferError):
            mapping.close()
    mapping.close()
    with pytest.raises(ValueError, match="closed"), faultin.guard(mapping):
        pass


def test_an_error_of_the_block_stays_the_context(data: Path) -> None:
    array = np.memmap(data, mode="r")
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(array):
        os.truncate(data, 0)
        raise KeyError("of the block")
    assert isinstance(error.value.__context__, KeyError)
    fill(data)
    with pytest.raises(KeyError), faultin.guard(array):
        raise KeyError("of the block")


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ("append", {"contents"}),
        ("rewrite", {"contents", "reader", "appending"}),
        ("touch", {"contents", "reader", "appending"}),
        ("again", {"contents", "reader", "appending"}),
        ("chmod", set()),
        ("replace", set()),
        ("remove", set()),
        ("none", set()),
    ],
)
@pytest.mark.parametrize("watch", ["contents", "reader", "appending", "nothing"])
def test_changes_without_a_fault(data: Path, change: str, fails: set[str], watch: str) -> None:
    array = np.memmap(data, mode="r")

    def block() -> None:
        with faultin.guard(array, watch=watch):  # type: ignore[arg-type]
            if change == "append":
                with open(data, "ab") as file:
                    file.write(b"more")
            elif change == "rewrite":
                with open(data, "r+b") as file:
                    file.write(b"other")
            elif change == "touch":
                os.utime(data)
            elif change == "again":
                os.truncate(data, 10)
                os.truncate(data, SIZE)
            elif change == "chmod":
                os.chmod(data, 0o600)
            elif change == "replace":
                data.with_name("new").write_bytes(b"new")
                os.replace(data.with_name("new"), data)
            elif change == "remove":
                data.unlink()

    if watch in fails:
        with pytest.raises(faultin.DamagedError) as error:
            block()
        expected = {"append": "grown"}.get(change, "rewritten")
        assert error.value.cause == expected and error.value.ranges == [(0, SIZE)]
    else:
        block()


def test_the_file_of_a_mapping_is_found_without_its_name(data: Path, tmp_path: Path) -> None:
    array = np.memmap(data, mode="r")
    data.unlink()
    with faultin.guard(array):
        assert array.sum() == SIZE
    descriptor = os.memfd_create("memory")
    os.truncate(descriptor, SIZE)
    mapping = mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ)
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(mapping):
        os.truncate(descriptor, 0)
        assert not any(mapping)
    assert error.value.filename == "/memfd:memory"
    for name in ("with\nnewline", "with space (deleted)", "ünïcode", "end "):
        path = tmp_path / name
        fill(path, 4 * PAGE)
        array = np.memmap(path, mode="r")
        with pytest.raises(faultin.DamagedError) as error, faultin.guard(array):
            os.truncate(path, 0)
            assert array.sum() == 0
        assert error.value.filename == str(path).removesuffix(" (deleted)"), name


def test_a_file_whose_mapping_shows_another_device(
    namespace: Callable[..., str], skip: Callable[[str, str], None], tmp_path: Path
) -> None:
    """overlayfs over two file systems: `stat` returns a device of the layer, and the list of mappings does not."""
    layers = (
        "( mkdir {0}/a {0}/b {0}/m && mount -t tmpfs a {0}/a && mount -t tmpfs b {0}/b && mkdir {0}/b/up {0}/b/work && "
        "cp {0}/data {0}/a/file && mount -t overlay -o lowerdir={0}/a,upperdir={0}/b/up,workdir={0}/b/work o {0}/m ) "
        "|| {{ echo no overlayfs; exit; }}"
    )
    fill(tmp_path / "data", 10 * PAGE)
    printed = namespace(
        layers.format(tmp_path),
        """
        import faultin, mmap, os, sys
        path = sys.argv[1] + "/m/file"
        file = open(path, "rb")
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        for change in (lambda: None, file.close, lambda: os.unlink(path)):
            change()
            with faultin.guard(mapping):
                assert mapping[0] == 1
            print("guarded")
        """,
        tmp_path,
    )
    if "no overlayfs" in printed:
        skip("overlayfs", printed)
    assert printed == "guarded\n" * 3


def test_random_access_takes_few_faults(data: Path) -> None:
    """Of a file on which every page is lost, in an order that defeats blocks."""
    size = 64 << 20
    with open(data, "r+b") as file:
        file.truncate(size)
    age(data)
    array = np.memmap(data, mode="r")
    with pytest.raises(faultin.DamagedError) as error, faultin.guard(array):
        os.truncate(data, PAGE)
        for at in np.random.default_rng(1).permutation(size // PAGE):
            assert array[at * PAGE] == 0
    assert error.value.ranges == [(PAGE, size)]


def test_arrow_computes_over_a_guarded_mapping(data: Path) -> None:
    pa = need("pyarrow")
    import pyarrow.compute as compute  # type: ignore[import-untyped]

    with pa.memory_map(str(data)) as file:  # type: ignore[attr-defined]
        buffer = file.read_buffer()
    array = pa.Array.from_buffers(pa.int8(), SIZE, [None, buffer])  # type: ignore[attr-defined]
    with faultin.guard(buffer):
        assert compute.sum(array).as_py() == SIZE
    with pytest.raises(faultin.DamagedError), faultin.guard(buffer):
        os.truncate(data, 50_000)
        assert compute.sum(array).as_py() == 50_000


def test_a_tensor_over_a_mapping(data: Path) -> None:
    torch = need("torch")
    tensor = torch.from_file(str(data), size=SIZE, dtype=torch.uint8)  # type: ignore[attr-defined]
    with faultin.guard(tensor):
        assert int(tensor.sum()) == SIZE
    with pytest.raises(faultin.DamagedError), faultin.guard(tensor[PAGE:]):
        os.truncate(data, 2 * PAGE)
        assert int(tensor.sum()) == 2 * PAGE


def test_a_child_has_guards_of_its_own(data: Path) -> None:
    """`fork`, multiprocessing's default, with an active guard, and one in the child."""
    printed = prints(
        """
        import faultin, numpy as np, os, sys
        array = np.memmap(sys.argv[1], mode="r")
        try:
            with faultin.guard(array):
                if not (child := os.fork()):
                    try:
                        with faultin.guard(array):
                            os.truncate(sys.argv[1], 0)
                            assert array.sum() == 0
                    except faultin.DamagedError:
                        os._exit(5)
                    os._exit(6)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
                assert array.sum() == 0
        except faultin.DamagedError as error:
            print("both")
        """,
        data,
    )
    assert printed == "both\n"


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)", "pass", "raise SystemExit(0)", "del array"])
def test_the_interpreter_ends_with_open_maps_and_active_guards(data: Path, end: str) -> None:
    printed = prints(
        f"""
        import faultin, numpy as np, os, sys, threading
        faultin.install()
        array = np.memmap(sys.argv[1], mode="r")
        map = faultin.open(sys.argv[1])
        lines = map.lines()
        next(lines)
        guard = faultin.guard(array)
        guard.__enter__()
        os.truncate(sys.argv[1], 100)
        assert array.sum() == 100
        sys.modules["keeps"] = guard
        print("end", flush=True)
        {end}
        """,
        data,
    )
    assert printed == "end\n"


def test_faulthandler_before_and_after(data: Path) -> None:
    for setup in (
        "faulthandler.enable()",
        "faultin.install(); faulthandler.enable()",
        "faulthandler.enable(); faultin.install()",
        "faultin.install(); faulthandler.enable(); faulthandler.disable(); faulthandler.enable()",
    ):
        fill(data)
        result = run(
            f"""
            import faulthandler, faultin, numpy as np, os, sys
            {setup}
            array = np.memmap(sys.argv[1], mode="r")
            for _ in range(3):
                try:
                    with faultin.guard(array):
                        os.truncate(sys.argv[1], 0)
                        assert array.sum() == 0
                except faultin.DamagedError:
                    print("damaged", faultin.status().bus, faultin.status().faulthandler, flush=True)
                with open(sys.argv[1], "r+b") as file:
                    file.truncate(1 << 20)
            os.truncate(sys.argv[1], 0)
            array.sum()
            """,
            data,
        )
        assert result.returncode == -7 and result.stdout == "damaged first True\n" * 3, (setup, result)
        assert result.stderr.count("Fatal Python error: Bus error") == 1, (setup, result.stderr)


def test_a_hostile_process_that_truncates_ten_thousand_times(data: Path) -> None:
    """No crash, and no zero that was read without an error."""
    rounds = 10_000
    hostile = subprocess.Popen(
        [sys.executable, "-c", HOSTILE, str(data), str(SIZE), str(rounds)], stdout=subprocess.PIPE, text=True
    )
    failures: list[str] = []
    seen = {"whole": 0, "damaged": 0}

    def read() -> None:
        array = np.memmap(data, mode="r", shape=(SIZE,))
        while hostile.poll() is None:
            zeros = 0
            try:
                with faultin.guard(array):
                    zeros = SIZE - int(np.count_nonzero(array))
                    zeros += SIZE - int(array.sum())
            except faultin.DamagedError as error:
                seen["damaged"] += 1
                if not error.ranges:
                    failures.append(f"no ranges: {error}")
            else:
                seen["whole"] += 1
                if zeros:
                    failures.append(f"{zeros} zeros without an error")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    output, _ = hostile.communicate()
    assert hostile.returncode == 0 and int(output) == rounds
    assert not failures, failures[:5]
    assert seen["damaged"] > 100, seen
    assert faultin.status().guards == 0


#: Truncates a file to random lengths, and makes it longer again by its bytes: it never has a zero in it.
HOSTILE = """
import os, random, sys, time
path, size, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(5)
ones = b"\\1" * size
file = os.open(path, os.O_RDWR)
length = size
for number in range(rounds):
    length = min(length, random.choice([0, 1, size // 2, random.randrange(size)]))
    os.ftruncate(file, length)
    if number % 3:
        length += os.pwrite(file, ones[length:], length)
    if number % 200 == 0:
        length = os.pwrite(file, ones, 0)
        time.sleep(0.03)
os.pwrite(file, ones, 0)
print(rounds)
"""
