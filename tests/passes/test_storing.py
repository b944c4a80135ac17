"""Parsed rules are kept where the runtime keeps its cache, and used under the same conditions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irc import runtime
from irc.passes.language import storing


@pytest.mark.parametrize(
    "given",
    [
        {"HOME": "/home/a"},
        {"HOME": "/home/a", "XDG_CACHE_HOME": ""},
        {"HOME": "/home/a", "XDG_CACHE_HOME": "/xdg"},
        {"XDG_CACHE_HOME": "/xdg", "IRC_CACHE_DIR": ""},
        {"XDG_CACHE_HOME": "/xdg", "IRC_CACHE_DIR": "/own"},
    ],
)
def test_the_folder_is_that_of_the_runtime(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "IRC_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert storing.cache_folder() == runtime.cache_folder()


def test_a_user_without_a_home_has_the_same_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(kind: type[Path]) -> Path:
        raise RuntimeError("there is no home")

    for name in ("XDG_CACHE_HOME", "IRC_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    assert storing.cache_folder() == runtime.cache_folder()


@pytest.mark.skipif(os.name != "posix", reason="there are no permissions to look at")
def test_a_folder_that_everyone_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    storing.store("rules", "a.rules", [1])
    assert storing.stored("rules", "a.rules") == [1]
    (tmp_path / "cache").chmod(0o777)
    assert storing.stored("rules", "a.rules") is None
    storing.store("rules", "b.rules", [2])
    (tmp_path / "cache").chmod(0o700)
    assert storing.stored("rules", "b.rules") is None
    assert storing.stored("rules", "a.rules") == [1]
