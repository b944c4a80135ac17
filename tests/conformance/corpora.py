"""The corpora that compiled programs are held against: onnx's backend node cases, trap graphs, real models.

Traps and models lie in `shared/` beside the repository; tests skip, saying so, where it is missing.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
Feeds = dict[str, Any]

ort.set_default_logger_severity(4)


def shared(name: str) -> Path:
    """A folder of `shared/`; skips the test where it is missing."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs {name}/ in the folder shared/ beside the repository")
    return SHARED / name


def session(model: str | bytes, *, optimized: bool = False) -> ort.InferenceSession:
    """ONNX Runtime on the untouched model, by default with every optimization off."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def node_cases() -> tuple[Any, ...]:
    """onnx's backend node cases."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(collect_testcases(None))


def traps() -> Iterator[tuple[str, bytes, Feeds]]:
    """The trap graphs: name, model, feeds."""
    path = shared("traps") / "traps.py"
    spec = importlib.util.spec_from_file_location("irc_traps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, (model, feeds, _) in module.T.items():
        yield name, model.SerializeToString(), feeds


def real_models() -> Iterator[tuple[str, Path, Feeds]]:
    """The real models with seeded feeds as their manifest describes them: name, path, feeds."""
    folder = shared("models")
    for record in json.loads((folder / "manifest.json").read_text()):
        path = folder / f"{record['name']}.onnx"
        yield record["name"], path, _feeds(record["inputs"], session(str(path)))


def _feeds(described: dict[str, Any], model: ort.InferenceSession) -> Feeds:
    generator = np.random.default_rng(0)
    sizes, otherwise = described.get("_sym", {}), described.get("_default", 1)
    feeds: Feeds = {}
    for entry in model.get_inputs():
        own = described.get(entry.name, {})
        declared = [d if isinstance(d, int) and d > 0 else sizes.get(d, otherwise) for d in entry.shape]
        shape, dtype = own.get("shape", declared), NUMPY[entry.type]
        if "value" in own:
            feeds[entry.name] = np.full(shape, own["value"], dtype)
        elif np.issubdtype(dtype, np.floating):
            feeds[entry.name] = generator.standard_normal(shape).astype(dtype)
        else:
            feeds[entry.name] = generator.integers(own.get("lo", 0), own.get("hi", 2), shape).astype(dtype)
    return feeds


def distance(wanted: Any, got: Any) -> float:
    """Relative L2 in float64; infinite where structure, dtype, shape, strings, or the places of NaN and Inf differ.

    Integers and bools that differ by at most one step count as equal.
    """
    if isinstance(wanted, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(wanted) != len(got):
            return float("inf")
        return max((distance(a, b) for a, b in zip(wanted, got, strict=True)), default=0.0)
    if isinstance(wanted, dict):
        return 0.0 if wanted == got else float("inf")
    if wanted is None or got is None:
        return 0.0 if wanted is got else float("inf")
    a, b = np.asarray(wanted), np.asarray(got)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.dtype.kind in "OSU":
        return 0.0 if np.array_equal(a, b) else float("inf")
    if a.dtype.kind in "iu":
        return 0.0 if a.size == 0 or int(np.abs(a.astype(object) - b.astype(object)).max()) <= 1 else float("inf")
    kind = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(kind).reshape(-1), b.astype(kind).reshape(-1)
    unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if not np.isfinite(x[unequal]).all() or not np.isfinite(y[unequal]).all():
        return float("inf")
    norm = float(np.linalg.norm(x[np.isfinite(x)]))
    gap = float(np.linalg.norm(x[unequal] - y[unequal]))
    return gap / norm if norm else gap


def same_bits(wanted: Any, got: Any) -> bool:
    """Whether both are the same to the last bit; any NaN equals any NaN."""
    if isinstance(wanted, (list, tuple)):
        return isinstance(got, (list, tuple)) and len(wanted) == len(got) and all(map(same_bits, wanted, got))
    a, b = np.asarray(wanted), np.asarray(got)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    nan = np.isnan(a)
    return bool(np.array_equal(nan, np.isnan(b))) and a[~nan].tobytes() == b[~nan].tobytes()
