"""The examples on handwritten digits: what is committed is what they say, and each runs, the long ones in a short version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LARGEST = 400 << 10
ACCURACIES = {"digits": 0.98, "digits_mlp": 0.94, "digits_transformer": 0.94}
"""What each committed network reaches at least on the test split."""


def run(script: str, *words: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    rooms = os.pathsep.join(filter(None, (str(ROOT / ".typing"), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *words],
        env=os.environ | {"PYTHONPATH": rooms, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def split(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(EXAMPLES / f"digits_{name}.npz") as file:
        return file["x"], file["labels"]


@pytest.mark.parametrize("name", ACCURACIES)
def test_a_committed_network_recognizes_what_it_has_not_seen(name: str) -> None:
    images, labels = split("test")
    session: Any = onnxruntime.InferenceSession(EXAMPLES / f"{name}.onnx", providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(["logits"], {"x": images})[0])
    assert (logits.argmax(axis=1) == labels).mean() >= ACCURACIES[name]


def test_the_two_splits_have_all_digits_and_no_image_in_common() -> None:
    seen, held_out = split("train"), split("test")
    for images, labels in (seen, held_out):
        assert images.shape == (len(labels), 1, 8, 8)
        assert set(labels.tolist()) == set(range(10))
        assert 0.0 <= images.min() < images.max() <= 1.0
    assert not {image.tobytes() for image in seen[0]} & {image.tobytes() for image in held_out[0]}


def test_what_is_committed_is_small() -> None:
    assert not [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.stat().st_size > LARGEST]


@pytest.mark.slow
def test_int8_loses_at_most_three_tenths_of_a_point() -> None:
    code, printed = run("int8_digits.py")
    assert code == 0, printed


@pytest.mark.slow
def test_half_of_the_channels_go_for_at_most_a_point() -> None:
    pytest.importorskip("torch", reason="the example trains with PyTorch, which is not installed (the extra 'torch')")
    code, printed = run("prune_digits.py")
    assert code == 0, printed


@pytest.mark.slow
def test_distilling_in_a_short_version() -> None:
    pytest.importorskip("torch", reason="the example trains with PyTorch, which is not installed (the extra 'torch')")
    code, printed = run("distill_digits.py", "--seeds", "1", "--epochs", "2")
    assert code in (0, 1), printed  # who wins after two epochs says nothing
    assert "mean" in printed, printed
