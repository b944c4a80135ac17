"""Modules run in processes of their own: what they print, and how their end is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from irc.runtime import EngineFailure, run_child


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `child`, which runs its first argument."""
    (tmp_path / "child.py").write_text("import os, sys, time\nexec(sys.argv[1])\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_what_it_prints() -> None:
    said = run_child("child", "print(os.environ['MINE'], sys.argv[2])", "x", timeout=60, environment={"MINE": "1"})
    assert said.split() == [b"1", b"x"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('no good')", "its process ended with exit code 1: ValueError: no good"),
        ("os.kill(os.getpid(), 11)", "its process was killed by SIGSEGV"),
        ("os._exit(3)", "its process ended with exit code 3"),
    ],
)
def test_how_it_ends(code: str, message: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        run_child("child", code, timeout=60)
    assert caught.value.message == message


def test_it_may_not_take_for_ever() -> None:
    with pytest.raises(EngineFailure, match=r"it did not end within 0\.5 s"):
        run_child("child", "time.sleep(600)", timeout=0.5)
