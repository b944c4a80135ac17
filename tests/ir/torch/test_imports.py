"""torch is an extra: nothing but capturing from it brings it in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from irc.ir import SourceOrigin, parse_origin
from irc.ir.capture.torch import is_torch_source

HEAVY = ("torch", "onnxscript", "onnx_ir", "sympy")


def run(code: str) -> None:
    """Run code in an interpreter that must not have torch afterwards."""
    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("module", ["irc", "irc.ir", "irc.ir.capture", "irc.ir.capture.torch"])
def test_importing_does_not_bring_in_torch(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_asking_whether_something_comes_from_torch_does_not_either() -> None:
    run("from irc.ir.capture.torch import is_torch_source; assert not is_torch_source(3)")
    assert is_torch_source("model.pt2")
    assert not is_torch_source("model.onnx")


def test_registering_a_translation_does_not_either() -> None:
    run("from irc.ir.capture.torch import translate; translate('a::b', print)")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("model.py:41 (stem.conv1) conv2d_3", SourceOrigin("model.py", 41, "stem.conv1", "conv2d_3")),
        ("my models/model.py:41 add", SourceOrigin("my models/model.py", 41, "", "add")),
        ("model.py:41", SourceOrigin("model.py", 41)),
        ("<stdin>:3 (a.0) relu", SourceOrigin("<stdin>", 3, "a.0", "relu")),
        ("(stem.conv1) conv2d_3", SourceOrigin("", 0, "stem.conv1", "conv2d_3")),
    ],
)
def test_an_origin_is_read_as_it_is_written(text: str, origin: SourceOrigin) -> None:
    assert parse_origin(text) == origin
    assert origin.text == text


@pytest.mark.parametrize("text", ["", "/layer/Conv", "conv1/Conv2D:0", "Conv(y)", "node 3", "MatMul_55", "block (copy) x y"])
def test_the_name_of_an_onnx_node_is_no_source(text: str) -> None:
    assert parse_origin(text) is None
