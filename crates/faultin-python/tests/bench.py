"""Figures, as ratios: what is compared is measured in turns, and the ratio is taken of each turn.

`cargo xtask env python --bench`. Processor time, because a machine that does other work takes a thread off its processor.
"""

from __future__ import annotations

import mmap
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import faultin
import faultin.safetensors

GIBIBYTE = 1 << 30


Times = dict[str, list[float]]


def measure(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    number: int = 1,
    clock: Callable[[], float] = time.thread_time,
) -> Times:
    """Returns the times of each function in seconds, measured in turns: processor time of the thread, unless told otherwise."""
    times: Times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begun = clock()
            for _ in range(number):
                function()
            times[name].append((clock() - begun) / number)
    return times


def show(what: str, times: Times, limit: float | None = None, unit: float = 1.0) -> None:
    """Prints the median of each, and the quartiles of the ratios of its rounds to those of the first one."""
    (base, first), *others = times.items()
    print(f"\n{what} [load {os.getloadavg()[0]:.1f}]: {base} {statistics.median(first) * unit:.3f}")
    for name, own in others:
        ratios = [one / other for one, other in zip(own, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        goal = f", the goal is {limit}" if limit else ""
        print(f"  {name} {statistics.median(own) * unit:.3f}: {middle:.2f} ({low:.2f} to {high:.2f}) of it{goal}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def gibibyte(place: Path) -> Path:
    path = place / "gibibyte"
    block = np.random.default_rng(1).bytes(1 << 24)
    with open(path, "wb") as file:
        for _ in range(GIBIBYTE >> 24):
            file.write(block)
    return path


def test_readinto_of_a_gibibyte(gibibyte: Path) -> None:
    target = np.ones(GIBIBYTE, "u1")

    def copy() -> None:
        np.copyto(target, np.memmap(gibibyte, mode="r"))

    kept = np.memmap(gibibyte, mode="r")
    warm = faultin.open(gibibyte, backend="mapping")

    def read(backend: Any) -> Callable[[], None]:
        def function() -> None:
            with faultin.open(gibibyte, backend=backend) as map:
                assert map.readinto(target) == GIBIBYTE

        return function

    def kernel() -> None:
        descriptor = os.open(gibibyte, os.O_RDONLY)
        assert os.preadv(descriptor, [target], 0) == GIBIBYTE
        os.close(descriptor)

    functions = {
        "np.copyto from a new memmap": copy,
        "os.preadv, in one call": kernel,
        "readinto": read("pread"),
        "readinto, mapping": read("mapping"),
    }
    show("1 GiB, opened each time, s", measure(functions, 21), 1.05)
    with faultin.open(gibibyte, backend="pread") as map:
        kept_functions: dict[str, Callable[[], object]] = {
            "np.copyto from a memmap that was read before": lambda: np.copyto(target, kept),
            "readinto": lambda: map.readinto(target),
            "readinto, mapping": lambda: warm.readinto(target),
        }
        show("1 GiB, open already, s", measure(kept_functions, 21), 1.05)


def test_calls_of_64_bytes(gibibyte: Path) -> None:
    descriptor = os.open(gibibyte, os.O_RDONLY)
    buffer = bytearray(64)
    mapping = faultin.open(gibibyte, backend="mapping")
    nothing = faultin.open(gibibyte, backend="pread", watch="nothing")
    with faultin.open(gibibyte, backend="pread") as map:
        functions: dict[str, Callable[[], object]] = {
            "os.pread": lambda: os.pread(descriptor, 64, 4096),
            "readinto": lambda: map.readinto(buffer, 4096),
            "read": lambda: map.read(64, 4096),
            "readinto, mapping": lambda: mapping.readinto(buffer, 4096),
            "readinto, watch nothing": lambda: nothing.readinto(buffer, 4096),
        }
        show("64 bytes, us", measure(functions, 300, 100), 2.0, 1e6)


def test_entry_and_exit_of_a_guard(gibibyte: Path) -> None:
    array = np.memmap(gibibyte, mode="r")
    with open(gibibyte, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def guard(what: Any) -> Callable[[], None]:
        def function() -> None:
            with faultin.guard(what):
                pass

        return function

    functions = {"os.getppid": os.getppid, "guard of an array": guard(array), "guard of an mmap": guard(mapping)}
    show("guard, us (at most 5)", measure(functions, 300, 100), None, 1e6)


def test_a_scan_under_a_guard(gibibyte: Path) -> None:
    array = np.memmap(gibibyte, mode="r").view("u8")

    def guarded() -> None:
        with faultin.guard(array):
            array.sum()

    show("sum of 1 GiB, s", measure({"without a guard": array.sum, "with one": guarded}, 9))


def test_the_latency_of_ctrl_c(gibibyte: Path) -> None:
    target = np.ones(GIBIBYTE, "u1")
    sent = [0.0]

    def interrupt() -> None:
        time.sleep(0.03)
        sent[0] = time.perf_counter()
        signal.raise_signal(signal.SIGINT)

    shortest = float("inf")
    for _ in range(9):
        with faultin.open(gibibyte, backend="pread") as map:
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                while True:
                    map.readinto(target)
            except KeyboardInterrupt:
                shortest = min(shortest, time.perf_counter() - sent[0])
            thread.join()
    print(f"\nCtrl-C during readinto: {shortest * 1e3:.1f} ms (at most 100) [load {os.getloadavg()[0]:.1f}]")


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_safetensors(place: Path, framework: Any) -> None:
    if framework == "torch":
        pytest.importorskip("torch")
        from safetensors.torch import load_file
    else:
        from safetensors.numpy import load_file
    from safetensors.numpy import save_file

    path = place / f"{framework}.safetensors"
    save_file({f"layer {number}": np.ones((1 << 22,), "f4") for number in range(64)}, path)

    def theirs() -> None:
        load_file(path)

    def touched() -> None:
        for tensor in load_file(path).values():
            tensor.sum()

    def ours() -> None:
        faultin.safetensors.load_file(path, framework=framework)

    def ours_touched() -> None:
        for tensor in faultin.safetensors.load_file(path, framework=framework).values():
            tensor.sum()

    # (PyTorch's sum has threads of its own.)
    loads, sums = {"theirs": theirs, "ours": ours}, {"theirs": touched, "ours": ours_touched}
    show(f"safetensors, {framework}, 1 GiB, s", measure(loads, 9, clock=time.process_time), 1.0)
    show("the same, and the sum of each", measure(sums, 9, clock=time.process_time), 1.0)
    path.unlink()
