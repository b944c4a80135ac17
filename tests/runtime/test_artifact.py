"""The artifact: what is written comes back, equal programs make equal bytes, and nothing damaged is ever used."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irc.runtime import (
    ArtifactError,
    Manifest,
    NodeCount,
    PassRecord,
    Placement,
    SignatureEntry,
    Source,
    load,
    open_artifact,
    write_artifact,
    write_artifact_folder,
)

from .models import mlp

MANIFEST = Manifest(
    engine="onnxruntime",
    inputs=(SignatureEntry("x", "f32", ("N", 3, None)), SignatureEntry("k", "i64", (), optional=True)),
    outputs=(SignatureEntry("y", "bf16", None), SignatureEntry("s", "str", ("N",), "sequence")),
    engine_options={"threads": 2, "spin": False, "providers": ("a", "b"), "config": {"k": "v"}},
    dims_must_agree=("N",),
    target="cpu",
    opt_level=3,
    source=Source("model.onnx", "0" * 64),
    versions={"irc": "0.1.0"},
    passes=(PassRecord("cse", 0.25, 3), PassRecord("fuse", None, 0)),
    placement=(Placement("onnxruntime", 12),),
    nodes=NodeCount(20, 12),
)
FILES = {"model.onnx": [b"abc", b"def"], "weights.safetensors": [bytes(range(256)) * 64], "parts/0.bin": [b""]}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "a.irc"
    write_artifact(path, MANIFEST, FILES)
    return path


# What is written comes back


def test_round_trip(artifact: Path) -> None:
    opened = open_artifact(artifact)
    assert dataclasses.replace(opened.manifest, files={}) == MANIFEST
    assert {name: bytes(opened.read(name)) for name in opened.names} == {n: b"".join(c) for n, c in FILES.items()}


@pytest.mark.parametrize("limit", [100, 3000])
def test_round_trip_with_the_wide_records_of_large_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Between 2 and 4 GiB an archive has wide records though its narrow ones are not full; the limit is lowered to see it."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    path = tmp_path / "wide.irc"
    write_artifact(path, MANIFEST, {"model.onnx": [bytes(2000)], "weights.safetensors": [b"w" * 5000]})
    opened = open_artifact(path)
    assert bytes(opened.read("model.onnx")) == bytes(2000)
    assert bytes(opened.read("weights.safetensors")) == b"w" * 5000
    assert zipfile.ZipFile(path).testzip() is None


def test_round_trip_as_a_folder(tmp_path: Path) -> None:
    write_artifact_folder(tmp_path / "a", MANIFEST, FILES)
    opened = open_artifact(tmp_path / "a")
    assert bytes(opened.read("model.onnx")) == b"abcdef"
    assert (tmp_path / "a" / "parts" / "0.bin").read_bytes() == b""


def test_other_tools_can_unpack_it(artifact: Path) -> None:
    with zipfile.ZipFile(artifact) as archive:
        assert archive.testzip() is None
        assert archive.read("model.onnx") == b"abcdef"


def test_files_begin_at_pages_so_that_they_can_be_mapped(artifact: Path) -> None:
    with zipfile.ZipFile(artifact) as archive:
        for info in archive.infolist():
            name_size, extra_size = struct.unpack_from("<HH", artifact.read_bytes(), info.header_offset + 26)
            assert (info.header_offset + 30 + name_size + extra_size) % 4096 == 0


def test_reading_copies_nothing(artifact: Path) -> None:
    opened = open_artifact(artifact)
    first, second = (np.frombuffer(opened.read("weights.safetensors"), np.uint8) for _ in range(2))
    assert np.shares_memory(first, second)
    assert not first.flags.writeable


def test_equal_programs_make_equal_bytes(artifact: Path, tmp_path: Path) -> None:
    again = dict(reversed(FILES.items()))
    write_artifact(tmp_path / "b.irc", MANIFEST, {**again, "model.onnx": [b"abcdef"]})
    assert artifact.read_bytes() == (tmp_path / "b.irc").read_bytes()


def test_saving_a_loaded_program_makes_the_same_bytes(tmp_path: Path) -> None:
    mlp()[0].save(tmp_path / "a.irc")
    load(tmp_path / "a.irc").save(tmp_path / "b.irc")
    assert (tmp_path / "a.irc").read_bytes() == (tmp_path / "b.irc").read_bytes()


def test_an_artifact_can_be_saved_over_itself_while_it_runs(tmp_path: Path) -> None:
    mlp()[0].save(tmp_path / "a.irc")
    program = load(tmp_path / "a.irc")
    program.save(tmp_path / "a.irc")
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(program.run({"x": x})["y"], load(tmp_path / "a.irc").run({"x": x})["y"])


# Nothing is left behind


@pytest.mark.parametrize("write", [write_artifact, write_artifact_folder])
def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    if write is write_artifact:
        (tmp_path / "a.irc").write_text("before")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ArtifactError, match="no space left"):
        write(tmp_path / "a.irc", MANIFEST, FILES)
    assert sorted(tmp_path.iterdir()) == before
    assert all(path.read_text() == "before" for path in before)


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "a/../b", "", ".hidden", "a b", "a\\b", "ü", "manifest.json"])
def test_names_that_cannot_be_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError):
        write_artifact(tmp_path / "a.irc", MANIFEST, {name: [b""]})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be written: no such file or directory$"):
        write_artifact(tmp_path / "none" / "a.irc", MANIFEST, FILES)


# Nothing damaged is used


def rewrite(path: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> None:
    """Copy an archive entry by entry through `change`."""
    with zipfile.ZipFile(path) as old:
        entries = [(info, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(path, "w") as new:
        for info, data in entries:
            change(new, info, data)


def with_manifest(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the manifest's text and keep everything else right."""

    def each(new: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        new.writestr(info, change(data) if info.filename == "manifest.json" else data)

    rewrite(path, each)


def with_entry(path: Path, name: str, data: bytes, **attributes: object) -> None:
    """Append an entry."""
    info = zipfile.ZipInfo(name)
    for attribute, each in attributes.items():
        setattr(info, attribute, each)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, data)


def compress(path: Path) -> None:
    def each(new: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        new.writestr(info, data, zipfile.ZIP_DEFLATED if info.filename == "model.onnx" else zipfile.ZIP_STORED)

    rewrite(path, each)


def drop(name: str) -> Callable[[Path], None]:
    def each(new: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename != name:
            new.writestr(info, data)

    return lambda path: rewrite(path, each)


def flip(needle: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(needle)
        data[at] ^= 1
        path.write_bytes(data)

    return damage


def replace(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: with_manifest(path, lambda text: re.sub(old, new, text, count=1))


def duplicate(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        with_entry(path, "model.onnx", b"abcdef")


def encrypt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not an artifact"),
    "cut in half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "not an artifact"),
    "cut at the front": (lambda path: path.write_bytes(path.read_bytes()[1:]), "does not fit"),
    "something in front": (lambda path: path.write_bytes(b"#!/bin/sh\n" + path.read_bytes()), "does not fit"),
    "something after": (lambda path: path.write_bytes(path.read_bytes() + b"more"), "not an artifact"),
    "empty": (lambda path: path.write_bytes(b""), "not an artifact"),
    "a pickle": (lambda path: path.write_bytes(b"\x80\x04\x95\x10\x00" + bytes(100)), "not an artifact"),
    "a flipped bit in the weights": (flip(bytes(range(256))), "weights.safetensors is not the file that was written"),
    "a flipped bit in the model": (flip(b"abcdef"), "model.onnx is not the file"),
    "a flipped bit in the manifest": (flip(b'"opt_level"'), "manifest is damaged"),
    "an extra file": (lambda path: with_entry(path, "extra.bin", b"x"), "extra.bin is not listed"),
    "a file twice": (duplicate, "model.onnx occurs twice"),
    "a file missing": (drop("model.onnx"), "model.onnx is listed in the manifest but not there"),
    "a way out": (lambda path: with_entry(path, "../evil", b"x"), "not a name"),
    "an absolute name": (lambda path: with_entry(path, "/etc/evil", b"x"), "not a name"),
    "a name with a letter of another script": (lambda path: with_entry(path, "mаnifest", b"x"), "not a name"),
    "a compressed file": (compress, "model.onnx is compressed"),
    "an encrypted file": (encrypt, "is encrypted"),
    "a link": (lambda path: with_entry(path, "l", b"/etc/passwd", external_attr=0o120777 << 16), "not a plain file"),
    "no manifest": (drop("manifest.json"), r"no manifest\.json"),
    "a manifest that is no JSON": (lambda path: with_manifest(path, lambda text: b"{" + text), "not the JSON"),
    "a manifest that is a list": (lambda path: with_manifest(path, lambda text: b"[]"), "should be an object"),
    "a manifest nested deeply": (lambda path: with_manifest(path, lambda text: b"[" * 10**6), "nested too deeply"),
    "a manifest that is no text": (lambda path: with_manifest(path, lambda text: b"\xff" + text), "not the JSON"),
    "another schema version": (replace(rb'"schema": 1', b'"schema": 2'), "schema version 2, but this release reads"),
    "an unknown key": (replace(rb'"target"', b'"surprise": 1, "target"'), "unknown key surprise"),
    "a key twice": (replace(rb'"target"', b'"target": "gpu", "target"'), "a key occurs twice"),
    "a key missing": (replace(rb'"target": "cpu",', b""), "lacks the key target"),
    "NaN": (replace(rb"0\.25", b"NaN"), "NaN is no number"),
    "a value of the wrong type": (replace(rb'"opt_level": 3', b'"opt_level": "3"'), "opt_level should be an integer"),
    "a negative dim": (replace(rb'"N",\s+3,', b'"N", -3,'), "-3 is no dim"),
    "an element type that is none": (replace(b'"bf16"', b'"bf17"'), "bf17 is no element type"),
    "another hash": (replace(rb'"sha256": "[1-9a-f]{8}', b'"sha256": "00000000'), "not the file that was written"),
    "a hash that is none": (replace(rb'"sha256": "\w{8}', b'"sha256": "xyz'), "64 hexadecimal digits"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_in_one_sentence(artifact: Path, damage: str) -> None:
    apply, reason = DAMAGE[damage]
    apply(artifact)
    with pytest.raises(ArtifactError, match=reason) as caught:
        open_artifact(artifact)
    assert caught.value.exit_code == 3
    assert str(artifact) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_prefix_of_an_artifact_is_refused(artifact: Path) -> None:
    data = artifact.read_bytes()
    for size in range(0, len(data), 211):
        artifact.write_bytes(data[:size])
        with pytest.raises(ArtifactError):
            open_artifact(artifact)


def test_no_flipped_byte_of_the_table_of_contents_crashes_the_reader(artifact: Path) -> None:
    data = artifact.read_bytes()
    for at in range(data.index(b"PK\x01\x02"), len(data)):
        if any(data[at - 4 : at + 4]):  # not inside the padding, which says nothing
            artifact.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            with contextlib.suppress(ArtifactError):
                open_artifact(artifact)


def test_a_folder_with_a_link_or_an_extra_file_or_no_manifest_is_refused(tmp_path: Path) -> None:
    write_artifact_folder(tmp_path / "a", MANIFEST, FILES)
    (tmp_path / "a" / "extra").write_text("x")
    with pytest.raises(ArtifactError, match="extra is not listed"):
        open_artifact(tmp_path / "a")
    (tmp_path / "a" / "extra").unlink()
    (tmp_path / "a" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match="link is a link"):
        open_artifact(tmp_path / "a")
    (tmp_path / "a" / "link").unlink()
    (tmp_path / "a" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        open_artifact(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="not a plain file"):
        open_artifact(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="no such file"):
        open_artifact(tmp_path / "none")


def test_options_and_engines_nobody_knows_are_refused(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.irc", dataclasses.replace(MANIFEST, engine="abacus"), {})
    with pytest.raises(ArtifactError, match="engine abacus"):
        load(tmp_path / "a.irc")
    wrong = dataclasses.replace(MANIFEST, engine_options={"thread": 2})
    write_artifact(tmp_path / "b.irc", wrong, {"model.onnx": [b""]})
    with pytest.raises(ArtifactError, match="thread is no option"):
        load(tmp_path / "b.irc")
