"""A folder to run command lines in."""

from __future__ import annotations

from pathlib import Path

import pytest

from .models import Shell, mlp


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A folder of its own, the current one, with `good.onnx` in it; crash reproducers go elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    made = Shell(folder, capfd)
    made.save("good.onnx", mlp())
    return made
