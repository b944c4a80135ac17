# pyright: basic
"""Inputs made by seed, some to calibrate on and some held back, and how far answers to those held back are from the reference.

They are made as the zoo's are: numbers normally distributed, integers even between the least and the largest that the model's
own `.npz` has. As a process, `python -m benchmarks.held_back MODEL ENGINE THREADS INPUTS OUTPUTS` loads a contestant once and
writes its outputs for each of INPUTS/*.npz to the file of that name in OUTPUTS; `reference` is ONNX Runtime with every
optimization off.
"""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irc.runtime import EngineFailure, load, write_arrays

CALIBRATION, HELD_BACK = 7, 8
"""Seeds; each set of arrays has its number behind it, and each array the hash of its input's name."""

Run = Callable[[dict[str, Any]], dict[str, Any]]


def write_samples(like: Path, folder: Path, count: int, seed: int) -> None:
    """`count` files of arrays like those of the file, unless they are there. Raises EngineFailure without it."""
    if not like.exists():
        raise EngineFailure("inputs are made like those in MODEL.npz, which is missing", location=str(like))
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(like, allow_pickle=False) as file:
        models = {name: file[name] for name in file.files}
    for index in range(count):
        path = folder / f"{index:04}.npz"
        if not path.exists():
            write_arrays(path, {name: _made(array, [seed, index, zlib.crc32(name.encode())]) for name, array in models.items()})


def _made(like: Any, seed: list[int]) -> Any:
    generator = np.random.default_rng(seed)
    if like.dtype.kind == "f":
        return generator.standard_normal(like.shape, np.float32).astype(like.dtype)
    if like.dtype.kind in "iu" and like.size:
        return generator.integers(like.min(), like.max(), like.shape, like.dtype, endpoint=True)
    return like


def write_answers(model: Path, engine: str, threads: int, inputs: Path, outputs: Path) -> None:
    """Run a contestant on all inputs in a process of its own. Raises EngineFailure with its last words."""
    outputs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.held_back", str(model), engine, str(threads), str(inputs), str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EngineFailure(said[-1] if said else f"its process ended with {done.returncode}", location=str(model))


def distance(outputs: Path, reference: Path) -> float:
    """The relative L2 distance over all files together, the worst output's; infinite where something is missing or differs."""
    difference: dict[str, float] = {}
    size: dict[str, float] = {}
    for path in sorted(reference.iterdir()):
        with np.load(path, allow_pickle=False) as wanted, np.load(outputs / path.name, allow_pickle=False) as found:
            for name in wanted.files:
                want, got = wanted[name].astype(np.float64), found[name].astype(np.float64)
                if want.shape != got.shape:
                    return float("inf")
                difference[name] = difference.get(name, 0.0) + float(np.square(got - want).sum())
                size[name] = size.get(name, 0.0) + float(np.square(want).sum())
    worst = max((difference[name] / max(size[name], 1e-30)) ** 0.5 for name in difference)
    return worst if np.isfinite(worst) else float("inf")


def _load(model: str, engine: str, threads: int) -> Run:
    """How to run a contestant: outputs by name from inputs by name."""
    if model.endswith(".irc"):
        program_run = load(model, threads).run
        return lambda feeds: dict(program_run(feeds))
    if engine.startswith("openvino"):
        return _in_openvino(model, engine, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if engine == "reference":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def _in_openvino(model: str, engine: str, threads: int) -> Run:
    import openvino

    properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if engine == "openvino":
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(model, "CPU", properties)
    request = compiled.create_infer_request()

    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        results = request.infer(feeds)
        return {port.get_any_name(): np.array(results[port]) for port in compiled.outputs}

    return run


def main(model: str, engine: str, threads: str, inputs: str, outputs: str) -> None:
    """Answer every input."""
    run = _load(model, engine, int(threads))
    for path in sorted(Path(inputs).iterdir()):
        with np.load(path, allow_pickle=False) as file:
            feeds = {name: file[name] for name in file.files}
        answers = {name: np.asarray(value) for name, value in run(feeds).items()}
        write_arrays(Path(outputs) / path.name, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
