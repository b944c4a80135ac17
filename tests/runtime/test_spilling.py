"""Weights that wait on a disk: the same weights, gone with their last view, and read by the session where they lie."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from irc.runtime import (
    WEIGHTS_FILE,
    OnnxRuntimeOptions,
    Program,
    SignatureEntry,
    WeightView,
    layout_weights,
    onnxruntime_weights,
    spill,
)
from irc.runtime import spilling as module
from irc.runtime.heap import trimmed_heap
from irc.runtime.onnxruntime_weights import supplied
from irc.runtime.scratch import Held

from .models import program, view

Weights = Mapping[str, WeightView]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for a disk with room."""
    monkeypatch.setattr(module, "_disk_with", lambda size: tmp_path)
    return tmp_path


def three() -> dict[str, WeightView]:
    generator = np.random.default_rng(0)
    arrays = {name: generator.standard_normal((16, 16, 3, 3), np.float32) for name in ("a", "b")}
    return {**{name: view(array) for name, array in arrays.items()}, "c": view(np.arange(8, dtype=np.uint8), "u8")}


def test_spilled_weights_are_the_same_at_their_place_in_the_file(disk: Path) -> None:
    weights = three()
    spilled = spill(weights, {"b", "c"})
    assert spilled == weights
    assert list(spilled) == list(weights)
    assert spilled["a"] is weights["a"]
    folder = spilled["b"].folder
    assert folder is not None
    assert folder == spilled["c"].folder
    assert folder.parent == disk.resolve()
    written = (folder / WEIGHTS_FILE).read_bytes()
    for name in ("b", "c"):
        offset, length = layout_weights(weights).ranges[name]
        assert written[offset : offset + length] == weights[name].data.tobytes()


def test_the_file_goes_away_with_the_last_view(disk: Path) -> None:
    spilled = spill(three(), {"b", "c"})
    last = spilled["c"].data
    del spilled
    gc.collect()
    assert len(list(disk.iterdir())) == 1
    del last
    gc.collect()
    assert not list(disk.iterdir())


def test_the_file_is_the_process_s_that_wrote_it(disk: Path) -> None:
    module._remove(Held(disk, None), os.getpid() + 1)
    assert disk.is_dir()


def test_nothing_to_spill_and_nowhere_to_put_it(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = three()
    assert spill(weights, ()) is weights
    assert not list(disk.iterdir())
    monkeypatch.setattr(module, "_disk_with", lambda size: None)
    assert spill(weights, {"a"}) is weights


def test_a_disk_that_is_full_after_all_leaves_them_in_memory(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> memoryview:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(module, "_written", full)
    weights = three()
    assert spill(weights, {"a"}) is weights
    assert not list(disk.iterdir())


def test_a_file_system_in_memory_is_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(module, "_MOUNTS", mounts)
    number = f"{os.major(device)}:{os.minor(device)}"
    for kind, memory in (("ext4", False), ("tmpfs", True)):
        mounts.write_text(f"22 1 9999:1 / /proc rw - ramfs none rw\n23 1 {number} / /tmp rw shared:1 - {kind} none rw\n")
        assert module._is_in_memory(tmp_path) is memory


def convolution(weights: Weights, options: OnnxRuntimeOptions) -> Program:
    """Two convolutions of 16 channels."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], name="first"),
        helper.make_node("Conv", ["h", "b"], ["y"], name="second"),
    ]
    inputs, outputs = [SignatureEntry("x", "f32", (1, 16, 9, 9))], [SignatureEntry("y", "f32", (1, 16, 5, 5))]
    return program(nodes, inputs, outputs, {name: weights[name] for name in ("a", "b")}, options=options)


IN_MEMORY = {
    "disable": OnnxRuntimeOptions(threads=1, optimization="disable"),
    "extended": OnnxRuntimeOptions(threads=1, optimization="extended"),
    "without the blocked layout": OnnxRuntimeOptions(threads=1, disabled_optimizers=("NchwcTransformer",)),
}


def read_from_file(weights: Weights, options: OnnxRuntimeOptions) -> set[str]:
    with supplied(weights, options) as supply:
        return set(supply.names)


@pytest.mark.parametrize("spilled", [("a",), ("a", "b")])
def test_a_session_reads_the_filters_that_it_replaces_from_the_file(disk: Path, spilled: tuple[str, ...]) -> None:
    weights, options = three(), OnnxRuntimeOptions(threads=1)
    x = {"x": np.random.default_rng(1).standard_normal((1, 16, 9, 9), np.float32)}
    pair = {name: weights[name] for name in ("a", "b")}
    assert not read_from_file(pair, options)
    assert read_from_file(spill(pair, spilled), options) == set(spilled)
    with convolution(pair, options) as plain, convolution(spill(pair, spilled), options) as made:
        np.testing.assert_array_equal(made.run(x)["y"], plain.run(x)["y"])
        assert {kernel.op for kernel in made.profile(x, 1).kernels}


@pytest.mark.parametrize("case", list(IN_MEMORY))
def test_a_session_that_keeps_the_filters_takes_them_from_memory(disk: Path, case: str) -> None:
    pair = {name: three()[name] for name in ("a", "b")}
    assert not read_from_file(spill(pair, {"a", "b"}), IN_MEMORY[case])


def test_a_file_that_was_tidied_away_does_not_matter(disk: Path, tmp_path: Path) -> None:
    pair = {name: three()[name] for name in ("a", "b")}
    spilled = spill(pair, {"a", "b"})
    folder = spilled["a"].folder
    assert folder is not None
    (folder / WEIGHTS_FILE).unlink()
    x = {"x": np.ones((1, 16, 9, 9), np.float32)}
    with convolution(pair, OnnxRuntimeOptions(threads=1)) as plain, convolution(spilled, OnnxRuntimeOptions(threads=1)) as made:
        np.testing.assert_array_equal(made.run(x)["y"], plain.run(x)["y"])


def test_a_program_with_spilled_weights_is_saved_like_any_other(disk: Path, tmp_path: Path) -> None:
    pair, options = {name: three()[name] for name in ("a", "b")}, OnnxRuntimeOptions(threads=1)
    with convolution(pair, options) as plain, convolution(spill(pair, {"a", "b"}), options) as made:
        plain.save(tmp_path / "plain.irc")
        made.save(tmp_path / "made.irc")
    assert (tmp_path / "plain.irc").read_bytes() == (tmp_path / "made.irc").read_bytes()


# Weights that a session uses where they lie


def product(w: np.ndarray, index: np.ndarray) -> Program:
    """y: x @ w, by a weight that the session may share, and g: some of its rows."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Gather", ["w", "index"], ["g"])]
    inputs = [SignatureEntry("x", "f32", ("N", w.shape[0]))]
    outputs = [SignatureEntry("y", "f32", ("N", w.shape[1])), SignatureEntry("g", "f32", (len(index), w.shape[1]))]
    inline = [numpy_helper.from_array(index, "index")]
    options = OnnxRuntimeOptions(threads=1, shared_weights=("w",))
    return program(nodes, inputs, outputs, {"w": view(w)}, inline, options)


def test_shared_weights_are_not_given_as_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = three()
    assert not read_from_file(weights, OnnxRuntimeOptions(shared_weights=("a",)))  # too small to matter
    monkeypatch.setattr(onnxruntime_weights, "LARGE", 1)
    assert read_from_file(weights, OnnxRuntimeOptions(shared_weights=("a",))) == {"a"}
    assert read_from_file(weights, OnnxRuntimeOptions()) == set()
    assert read_from_file(weights, OnnxRuntimeOptions(optimization="disable")) == {"a", "b", "c"}
    with supplied(weights, OnnxRuntimeOptions(shared_weights=("a",))) as supply:
        assert supply.folder is not None
        assert (supply.folder / WEIGHTS_FILE).read_bytes() == b""
    assert not supply.folder.exists()


def test_a_session_that_wants_to_look_at_a_shared_weight_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime folds the Gather of constants, and finds nothing in the empty file."""
    monkeypatch.setattr(onnxruntime_weights, "LARGE", 1)
    w, index = np.random.default_rng(0).standard_normal((8, 4), np.float32), np.array([3, 0], np.int64)
    with product(w, index) as made:
        found = made.run({"x": np.eye(8, dtype=np.float32)})
    np.testing.assert_array_equal(found["y"], w)
    np.testing.assert_array_equal(found["g"], w[index])


def test_a_large_program_answers_as_a_small_one(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model by every way to give the session its weights, with some of what it shares in a file."""
    w = np.random.default_rng(0).integers(-9, 10, (8, 4)).astype(np.float32)  # sums that are exact in any order
    x = np.ones((1, 8), np.float32)
    inputs, outputs = [SignatureEntry("x", "f32", (1, 8))], [SignatureEntry("y", "f32", (1, 4))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    for weights in ({"w": view(w)}, spill({"w": view(w)}, {"w"})):
        for large in (1 << 24, 1):
            monkeypatch.setattr(onnxruntime_weights, "LARGE", large)
            for options in (OnnxRuntimeOptions(shared_weights=("w",)), OnnxRuntimeOptions(optimization="disable")):
                with program(nodes, inputs, outputs, weights, options=options) as made:
                    np.testing.assert_array_equal(made.run({"x": x})["y"], x @ w)
                    assert made.profile({"x": x}, 1).kernels


# Trimming


def test_trimming_ends_with_the_block() -> None:
    before, forgotten = threading.active_count(), list[int]()
    with trimmed_heap(lambda: forgotten.append(1)):
        assert threading.active_count() >= before
    assert threading.active_count() == before
    assert forgotten


def test_trimming_ends_where_the_block_fails() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), trimmed_heap(lambda: None):
        raise ZeroDivisionError
    assert threading.active_count() == before
