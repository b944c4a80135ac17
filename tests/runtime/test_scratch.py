"""Temporary files and folders: gone with their maker, removed by the next one where the maker died, never while it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from irc.runtime import EngineFailure, scratch_folder
from irc.runtime.scratch import folder_beside, new_folder, temporary_beside

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no locks, and nothing is removed for others")

MAKER = """
import sys
from pathlib import Path
from irc.runtime.scratch import folder_beside, new_folder, temporary_beside
place = Path(sys.argv[1])
folder = new_folder("test", place)
with temporary_beside(place / "target") as (descriptor, path), folder_beside(place / "target") as beside:
    print(folder.path.name, path.name, beside.name, flush=True)
    input()
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@contextmanager
def everything(temporary: Path) -> Generator[None]:
    """All kinds of temporary files and folders at once."""
    with scratch_folder("test"), temporary_beside(temporary / "target") as (descriptor, _), folder_beside(temporary / "target"):
        os.close(descriptor)
        yield


def test_a_folder_is_gone_after_the_block(temporary: Path) -> None:
    with scratch_folder("test") as folder:
        (folder / "file").write_text("")
        assert folder.name.startswith("irc-scratch-test-")
    assert names(temporary) == []


def test_only_what_the_dead_have_left_is_removed(temporary: Path) -> None:
    """What a killed process made is removed by the next one; until it is killed, nobody touches it."""
    paths = os.pathsep.join(each for each in sys.path if each)
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as maker:
        assert maker.stdout is not None
        its = sorted(maker.stdout.readline().split())
        with everything(temporary):
            assert set(its) < set(names(temporary))
        assert names(temporary) == its
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    assert names(temporary) == its
    with everything(temporary):
        assert set(its).isdisjoint(names(temporary))
    assert names(temporary) == []


def test_what_is_called_otherwise_is_left_alone(temporary: Path) -> None:
    for name in ("irc-crash-a", "irc-scratch", "else"):
        (temporary / name).mkdir()
    for name in (".other.00000000.part", ".target.00000000.pat", ".target.part", "target"):
        (temporary / name).touch()
    (temporary / "irc-scratch-test-link").symlink_to(temporary / "else")
    before = names(temporary)
    with everything(temporary):
        assert names(temporary) != before
    assert names(temporary) == before


def test_two_folders_of_one_process_do_not_remove_each_other(temporary: Path) -> None:
    with scratch_folder("test") as one, scratch_folder("test") as other:
        assert one.is_dir()
        assert other.is_dir()


def test_a_released_folder_is_anyones(temporary: Path) -> None:
    new_folder("test").release()
    assert len(names(temporary)) == 1
    with scratch_folder("test"):
        assert len(names(temporary)) == 1
    assert names(temporary) == []


def test_what_the_system_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(EngineFailure) as caught, scratch_folder("test"):
        raise AssertionError("it began")
    hint = "set TMPDIR to a folder that can be written to and has room"
    assert str(caught.value) == f"{tmp_path / 'none'}: no temporary file can be written: no such file or directory ({hint})"
