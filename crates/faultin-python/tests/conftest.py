"""What the tests share: programs that die, and skips that are counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Bytes of a page of this machine.
PAGE = os.sysconf("SC_PAGESIZE")

#: Limits of time are so many times as long on a slow machine.
PATIENCE = int(os.environ.get("FAULTIN_PATIENCE", "1"))


def _skipped(need: str, why: str) -> None:
    """What ``faultin_test::skipped`` does: the line, the file of all skips, and an error where the need is required."""
    required = os.environ.get("FAULTIN_REQUIRE", "").split(",")
    if need in required or "all" in required:
        pytest.fail(f"{need} is required by FAULTIN_REQUIRE, but: {why}")
    why = " ".join(why.split())
    line = f"skipped: {need}: {why}\n"
    sys.__stderr__.write(line)
    if name := os.environ.get("FAULTIN_SKIPS"):
        with open(name, "a") as file:
            file.write(line)
    pytest.skip(why)


@pytest.fixture
def skip() -> Callable[[str, str], None]:
    return _skipped


def need(module: str) -> object:
    """Imports an optional module, or skips the test file by its name."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        _skipped(f"python-{module.replace('_', '-')}", str(error))
        raise


def run(script: str, *arguments: object, **words: object) -> subprocess.CompletedProcess[str]:
    """Runs a script in an interpreter of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120 * PATIENCE, **words)  # type: ignore[call-overload,no-any-return]


def dies(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a script that a bus error must end."""
    result = run(script, *arguments)
    assert result.returncode == -signal.SIGBUS, (result.returncode, result.stdout, result.stderr)
    return result


def prints(script: str, *arguments: object) -> str:
    """Runs a script that must end well. Returns what it prints."""
    result = run(script, *arguments)
    assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
    return result.stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of a mebibyte of ones, older than the clock's tick."""
    path = tmp_path / "data"
    path.write_bytes(b"\1" * (1 << 20))
    age(path)
    return path


def age(path: Path) -> None:
    """Waits until a later change of the file has another time."""
    import time

    before = os.stat(path).st_ctime_ns
    while time.clock_gettime_ns(time.CLOCK_REALTIME) - before < 25_000_000:
        time.sleep(0.005)


@pytest.fixture
def in_namespace(skip: Callable[[str, str], None]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs scripts in a namespace of mounts, after a command of the shell that mounts something."""
    probe = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    try:
        possible = subprocess.run(probe, capture_output=True).returncode == 0
    except OSError:
        possible = False
    if not possible:
        skip("mount", "no namespace of mounts")

    def run_there(mount: str, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount + ' && exec "$0" -c "$@"']
        command += [sys.executable, textwrap.dedent(script), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120 * PATIENCE)

    return run_there


@pytest.fixture
def namespace(in_namespace: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Runs scripts that must end well in a namespace of mounts. Returns what they print."""

    def run_there(mount: str, script: str, *arguments: object) -> str:
        result = in_namespace(mount, script, *arguments)
        assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
        return result.stdout

    return run_there


@pytest.fixture
def small_shm(
    in_namespace: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs scripts that see a /dev/shm of a mebibyte."""
    return lambda script, *arguments: in_namespace("mount -t tmpfs -o size=1m tmpfs /dev/shm", script, *arguments)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the numbers as Rust's harness does: `.ci/long` records them."""
    count = {word: len(terminalreporter.stats.get(word, [])) for word in ("passed", "failed", "error", "xfailed")}
    failed = count["failed"] + count["error"]
    state = "FAILED" if failed else "ok"
    terminalreporter.write_line(
        f"test result: {state}. {count['passed']} passed; {failed} failed; {count['xfailed']} ignored; 0 measured"
    )
