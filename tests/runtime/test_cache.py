"""The cache folder: entries are whole or not used, and nothing about it stops anyone's work."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from irc.runtime import (
    cache_folder,
    keep_weights,
    limits,
    measure_limits,
    measured_limits,
    read_entry,
    room,
    take_weights,
    why_no_cache,
    write_entry,
)
from irc.runtime.limits import Limits


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which is not there yet."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "above" / "irc"))
    return tmp_path / "above" / "irc"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IRC_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "irc"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/irc")
    monkeypatch.setenv("IRC_CACHE_DIR", "/own")
    assert cache_folder() == Path("/own")


def test_an_entry_is_kept(folder: Path) -> None:
    assert read_entry("a.json").content is None
    assert not folder.exists()
    assert write_entry("a.json", b"one") == ""
    assert write_entry("a.json", b"two\nlines") == ""
    assert read_entry("a.json").content == b"two\nlines"
    assert [each.name for each in folder.iterdir()] == ["a.json"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"\0", b"nonsense\nthree", None])
def test_a_damaged_entry_is_ignored(folder: Path, damage: bytes | None) -> None:
    write_entry("a.json", b"a long enough entry")
    whole = (folder / "a.json").read_bytes()
    (folder / "a.json").write_bytes(whole[:-3] if damage is None else damage)
    found = read_entry("a.json")
    assert found.content is None
    assert "is damaged and was ignored" in found.note
    assert write_entry("a.json", b"anew") == ""
    assert read_entry("a.json").content == b"anew"


def test_an_entry_that_cannot_be_read(folder: Path) -> None:
    (folder / "a.json").mkdir(parents=True)
    assert "is a directory" in read_entry("a.json").note


def test_a_folder_that_cannot_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("IRC_CACHE_DIR", str(place))
        assert why_no_cache()
        assert "nothing is kept in the cache" in write_entry("a.json", b"")
        assert read_entry("a.json").content is None


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_everyone_may_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.json").write_bytes(b"planted")
    folder.chmod(0o777)
    assert why_no_cache() == "everyone may write to it"
    assert "everyone may write to it" in write_entry("a.json", b"")
    assert read_entry("a.json").content is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(folder: Path) -> None:
    write_entry("a.json", b"kept")
    folder.chmod(0o500)
    assert "permission denied" in write_entry("a.json", b"other")
    assert why_no_cache() == "permission denied"
    assert read_entry("a.json").content == b"kept"


def test_a_full_disk_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry("a.json", b"kept")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "no space left on device" in write_entry("a.json", b"other")
    assert read_entry("a.json").content == b"kept"
    assert [each.name for each in folder.iterdir()] == ["a.json"]


# Measured limits are kept there


def test_limits_are_measured_when_asked_for(folder: Path) -> None:
    assert measured_limits().limits is None
    found = measure_limits().limits
    assert found is not None
    assert found.gflops is not None
    assert found.gflops > 0.1
    assert found.bandwidth is not None
    assert found.bandwidth > 0.1
    assert measured_limits().limits == found


def test_the_larger_figure_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([b'{"gflops": 10.0, "bandwidth": 5.0}', b'{"gflops": 9.0, "bandwidth": 6.0}'])
    monkeypatch.setattr(limits, "run_child", lambda *_, **__: next(said))
    assert measure_limits().limits == Limits(10.0, 5.0)
    assert measure_limits().limits == Limits(10.0, 6.0)


def test_limits_that_make_no_sense_are_ignored(folder: Path) -> None:
    measure = limits.processor()
    name = limits.entry_name(measure)
    for content in (b"[]", b'{"gflops": "many"}', b'{"gflops": 1, "else": 2}'):
        write_entry(name, content)
        found = measured_limits()
        assert found.limits is None
        assert "were ignored" in found.note


def test_weights_used_longest_ago_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "3000")
    for name in "ab":
        assert keep_weights(name, name.encode() * 1000)
        os.utime(folder / f"weights-{name}.safetensors", (1, 1 if name == "b" else 2))
    assert take_weights("a") == b"a" * 1000
    assert keep_weights("c", b"c" * 1900)
    assert (take_weights("b"), room().count) == (None, 2)
    assert not keep_weights("d", b"d" * 3001)
    assert room().count == 2
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "0")
    assert take_weights("a") is None


def test_weights_that_cannot_be_kept_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "1MiB")
    folder.parent.mkdir()
    folder.write_text("no folder")
    assert not keep_weights("a", b"a")
    assert take_weights("a") is None
