"""Programs of users, for `mypy --strict`: nothing here is run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from typing_extensions import assert_type

import faultin
import faultin.safetensors


def read(path: Path) -> None:
    with faultin.open(path, watch="contents") as map:
        assert_type(map, faultin.FileMap)
        assert_type(map[0], int)
        assert_type(map[1:2], bytes)
        assert_type(map.readinto(bytearray(5), 7), int)
        assert_type(map.readinto(np.empty(5), offset=7), int)
        assert_type(map.reader(), io.BufferedReader)
        assert_type(map.refresh(), str | None)
        for line in map.lines():
            assert_type(line, bytes)
        for line in map:
            assert_type(line, bytes)
        for chunk in map.chunks(100):
            assert_type(chunk, bytes)


def guard(array: np.memmap[tuple[int], np.dtype[np.float64]]) -> float:
    try:
        with faultin.guard(array, watch="nothing"):
            return float(array.sum())
    except faultin.DamagedError as error:
        assert_type(error.ranges, list[tuple[int, int]])
        assert_type(error.others, list[faultin.DamagedError])
        assert_type(error.offset, int | None)
        assert_type(error.cause, str)
        raise


def store(path: Path) -> None:
    with faultin.memmap(path, "f8", "w+", shape=(5, 5)) as array:
        array.store((1, slice(None)), 5)
        array[0] = np.ones(5)
        array.copyfrom(np.zeros(25))
        array.flush()
        assert_type(array.shape, tuple[int, ...])
    memory = faultin.SharedMemory(create=True, size=5)
    assert_type(memory.size, int)
    memory.close()


def load(path: Path) -> None:
    for name, tensor in faultin.safetensors.load_file(path, framework="numpy", progress=lambda done, total: None).items():
        print(name, tensor.shape)


def state() -> None:
    faultin.install()
    faultin.explain(traceback=False)
    assert_type(faultin.status(), faultin.Status)
    assert_type(faultin.status().guards, int)
