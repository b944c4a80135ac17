"""The thread pool of program.c: every task once, steps in order, whatever threads do; also as the race detector sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import irc.lowering.tvm.linking as linking

from .running import needs_compiler

pytestmark = needs_compiler

NATIVE = Path(linking.__file__).with_name("native")
POOL = Path(__file__).with_name("pool.c")


def built(folder: Path, *flags: str) -> Path:
    """The test driver, with every warning an error; skips where the compiler has no such flags."""
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}", *flags]
    done = subprocess.run([*command, str(POOL), "-o", "pool"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and flags:
        pytest.skip(f"the compiler does not take {flags[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "pool"


def said(command: list[str]) -> str:
    """What the driver complains about, at most its first lines."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return f"{done.stdout}{done.stderr}"[:2000] or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def test_every_task_runs_once_and_after_all_of_the_step_before(tmp_path: Path) -> None:
    assert said([str(built(tmp_path))]) == ""


def test_the_same_with_all_threads_on_one_core(tmp_path: Path) -> None:
    assert said(["taskset", "-c", "0", str(built(tmp_path))]) == ""


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }")
    flag = f"-fsanitize={sanitizer}"
    made = subprocess.run(["cc", flag, str(probe), "-o", str(tmp_path / "probe")], capture_output=True, check=False)
    if made.returncode or subprocess.run([str(tmp_path / "probe")], capture_output=True, check=False).returncode:
        pytest.skip(f"{flag} does not work here")
    assert said([str(built(tmp_path, "-g", flag))]) == ""
