"""What was compiled before comes from the cache: the same bytes, told again; and only where compiling would make them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from irc.lowering import CompileOptions, Precision, program_key
from irc.runtime import keep_program, load, room
from irc.tools.cli import kept

from .models import Shell, mlp, relu


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which even what takes no second is kept."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "1 GiB")
    monkeypatch.setattr(kept, "SHORTEST", 0.0)
    return tmp_path / "cache"


def said(shell: Shell, *flags: str, model: Path = Path("good.onnx")) -> tuple[bool, str]:
    """Whether the artifact came from the cache, and the remarks."""
    done = shell.run("compile", model, "-o", "made.irc", "--json", *flags)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["artifact"] == "made.irc"
    assert told["bytes"] == (shell.folder / "made.irc").stat().st_size
    return told["cached"], done.err


def compiled(shell: Shell, *flags: str, model: Path = Path("good.onnx")) -> bool:
    """Whether the artifact came from the cache."""
    return said(shell, *flags, model=model)[0]


def test_the_artifact_comes_back_as_it_was(shell: Shell) -> None:
    first = shell.good("compile", "good.onnx").splitlines()
    made = (shell.folder / "good.irc").read_bytes()
    second = shell.good("compile", "good.onnx", "-o", "again.irc").splitlines()
    assert (shell.folder / "again.irc").read_bytes() == made
    assert first[0].startswith("good.irc: 4 ops became ")
    assert second[0].startswith("again.irc: 4 ops became ")
    assert "taken from the cache" in second[0]
    assert second[1:] == first[1:]
    with load(shell.folder / "again.irc") as program:
        assert program.run({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 3)


def test_it_is_the_callers(shell: Shell) -> None:
    compiled(shell)
    compiled(shell)
    (shell.folder / "made.irc").write_bytes(b"written over")
    assert compiled(shell)
    with load(shell.folder / "made.irc"):
        pass


def test_remarks_are_made_again(shell: Shell) -> None:
    first, again = (said(shell, "--precision", "int8") for _ in range(2))
    assert (first[0], again[0]) == (False, True)
    assert "made-up inputs" in first[1]
    assert again[1] == first[1]


def test_a_bound_that_was_not_kept_fails_again(shell: Shell) -> None:
    for _ in range(2):
        done = shell.run("compile", "good.onnx", "--precision", "int8", "--max-error", "1e-9", "-o", "made.irc")
        assert done.code == 1
        assert "is not within the bound" in done.err
        assert (shell.folder / "made.irc").is_file()
        (shell.folder / "made.irc").unlink()


@pytest.mark.parametrize(
    "flags", [["-O1"], ["--disable-pass", "cse"], ["--dim", "N=3"], ["--target", "cpu:x86-64-v3"], ["--threads", "1"]]
)
def test_another_option_is_another_program(shell: Shell, flags: list[str]) -> None:
    assert not compiled(shell)
    assert not compiled(shell, *flags)
    assert compiled(shell, *flags)
    assert compiled(shell)


def test_another_model_is_another_program(shell: Shell) -> None:
    compiled(shell)
    shell.save("good.onnx", mlp(2.0))
    assert not compiled(shell)


def test_files_beside_the_model_count(shell: Shell) -> None:
    model = mlp()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, shell.folder / "outside.onnx")
    assert not compiled(shell, model=Path("outside.onnx"))
    assert compiled(shell, model=Path("outside.onnx"))
    weights = shell.folder / "weights.bin"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert not compiled(shell, model=Path("outside.onnx"))


def test_inputs_to_check_with_count_by_what_they_hold(shell: Shell) -> None:
    for value, before in ((1, False), (1, True), (2, False)):
        np.savez(shell.folder / "x.npz", x=np.full((2, 4), value, np.float32))
        assert compiled(shell, "--inputs", "x.npz") is before


def test_asked_to_compile_it_does(shell: Shell) -> None:
    compiled(shell)
    assert not compiled(shell, "--fresh")
    assert not compiled(shell, "--dump-ir", "ir")
    assert list((shell.folder / "ir").iterdir())
    assert "canonicalize" in shell.good("compile", "good.onnx", "--stats")


def test_what_is_measured_is_not_kept(shell: Shell) -> None:
    model = shell.folder / "good.onnx"
    assert program_key(model, CompileOptions(opt_level=3)) is None
    assert program_key(model, CompileOptions(opt_level=3, tune_budget=0)) is not None
    assert program_key(model, CompileOptions(opt_level=3, precision=Precision.AUTO)) is None
    assert program_key(model, CompileOptions(precision=Precision.INT8, metric=lambda outputs: 0.0, max_drop=1.0)) is None
    assert program_key(model, CompileOptions(load=("passes.py",))) is None


def test_calibration_data_count_by_what_they_hold(shell: Shell) -> None:
    folder = shell.folder / "data"
    folder.mkdir()
    keys: list[str | None] = []
    for value in (1, 1, 2):
        np.save(folder / "x.npy", np.full((2, 4), value, np.float32))
        options = CompileOptions(precision=Precision.INT8, calib=folder)
        keys += [program_key(shell.folder / "good.onnx", options)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("part", [b"Relu", b'"schema"', b"PK\x01\x02"])
def test_a_damaged_artifact_is_made_again(shell: Shell, cache: Path, part: bytes) -> None:
    compiled(shell)
    [path] = cache.glob("program-*.irc")
    content = bytearray(path.read_bytes())
    content[content.index(part)] ^= 1
    path.write_bytes(content)
    again, remarks = said(shell)
    assert not again
    assert "is damaged and was ignored" in remarks
    assert compiled(shell)


def test_an_artifact_that_went_is_made_again(shell: Shell, cache: Path) -> None:
    compiled(shell)
    for path in cache.glob("program-*.irc"):
        path.unlink()
    assert not compiled(shell)


def test_those_used_longest_ago_go(shell: Shell, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [shell.save(f"{width}.onnx", relu([width])) for width in (2, 3, 4)]
    for age, name in enumerate(names):
        compiled(shell, model=name)
        for path in cache.glob("program-*.irc"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100 * (age + 1)))
    assert compiled(shell, model=names[0])
    each = room().used // 3
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", str(3 * each + each // 2))
    compiled(shell, model=shell.save("5.onnx", relu([5])))
    assert room().count == 3
    assert len(list(cache.glob("program-*.json"))) == 3
    assert [compiled(shell, model=name) for name in (names[0], names[2])] == [True, True]
    assert not compiled(shell, model=names[1])


def test_none_is_kept_where_none_may_be(shell: Shell, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("0", "10", "much"):
        monkeypatch.setenv("IRC_CACHE_PROGRAMS", text)
        for _ in range(2):
            taken, remarks = said(shell)
            assert not taken
            assert ("much is no number of bytes" in remarks) is (text == "much")
    assert not list(cache.glob("program-*"))


def test_a_full_disk_keeps_the_old_artifact(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(shell)
    before = (shell.folder / "made.irc").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = shell.run("compile", "good.onnx", "-o", "made.irc")
    assert done.code == 2
    assert "no space left on device" in done.err
    assert (shell.folder / "made.irc").read_bytes() == before
    assert not [each.name for each in shell.folder.iterdir() if each.name.startswith(".")]


def test_a_cache_that_cannot_be_written_stops_nothing(shell: Shell, cache: Path) -> None:
    compiled(shell)
    artifact = shell.folder / "made.irc"
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("a file")
    assert "nothing is kept in the cache" in keep_program("0" * 32, artifact, b"{}")
    assert not compiled(shell)


def test_systems_that_cannot_copy_files_themselves(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: int) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    assert not compiled(shell)
    assert compiled(shell)


def test_doctor_says_what_is_kept(shell: Shell) -> None:
    compiled(shell)
    assert "1 artifact or learnt weights, " in shell.run("doctor").out
