"""O3 when something is in its way: files that are damaged or not whole, no time, a program that runs only elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import capture
from irc.lowering import CompileOptions, compile_model, find_target
from irc.lowering.tuning import search
from irc.lowering.tuning.building import Built
from irc.runtime import Contestant, EngineFailure

from .models import mlp, normal

ASKED = CompileOptions(opt_level=3, engine="onnxruntime", tune_budget=5.0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))


def check(compiled: Any) -> None:
    x = normal(3, 4, seed=1)
    np.testing.assert_allclose(compiled.program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped", "cut", "gone"])
def test_a_candidate_whose_files_are_damaged_fails_and_another_wins(
    monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    original, written = search.write_passing_folder, []

    def write(place: Path, *rest: Any) -> None:
        original(place, *rest)
        if not written:
            damage(place / "model.onnx")
        written.append(place)

    monkeypatch.setattr(search, "write_passing_folder", write)
    compiled = compile_model(mlp(), ASKED)
    damaged, *others = compiled.decisions
    assert damaged.fate == "failed"
    assert "model.onnx is" in damaged.why
    assert [each.fate for each in others].count("won") == 1
    check(compiled)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all"])
def test_answers_that_cannot_be_read_back_are_a_failure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outputs.npz").write_bytes(content)
    nothing: Any = None
    racing = search.Search(nothing, capture(mlp()), nothing, 0.0, ())
    with pytest.raises(EngineFailure, match="what it answered cannot be read back"):
        racing._judge(Contestant("a", tmp_path), tmp_path / "outputs.npz")


def test_without_time_for_anyone_one_is_compiled_by_rules() -> None:
    compiled = compile_model(mlp(), replace(ASKED, tune_budget=1e-3))
    said = "nothing was measured: no candidate was ready within the budget (give more with --tune-budget)"
    assert compiled.notes == [said]
    assert compiled.decisions == ()
    check(compiled)


@pytest.mark.slow
def test_a_winner_that_does_not_run_here_is_replaced_by_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(built: Built) -> None:
        raise EngineFailure("it is too large")

    monkeypatch.setattr(Built, "load", fail)
    compiled = compile_model(mlp(), ASKED)
    assert compiled.notes[0].endswith("ran in a process of its own, but not in this one: it is too large")
    check(compiled)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_openvino_says_nothing_of_a_full_disk_and_irc_does(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    openvino = pytest.importorskip("openvino")
    from irc.lowering.openvino import OpenVino

    original = openvino.serialize

    def serialize(model: Any, xml: Path, binary: Path) -> None:
        original(model, xml, binary)
        cut_short = xml.with_name(name)
        cut_short.write_bytes(cut_short.read_bytes()[:-16])

    monkeypatch.setattr(openvino, "serialize", serialize)
    with pytest.raises(EngineFailure, match="no temporary file can be written: no space left on device"):
        OpenVino().lower(capture(mlp()), find_target("cpu"), 2)
