# pyright: basic
"""The process in which one contestant is measured: `python -m irc.runtime.worker MODEL …`, driven in lines of JSON.

It says `load_ms` and `first_run_ms` once it is ready, answers each line `go` with a round, and each line `kernels` with the
times of the kernels in one, and ends at `stop`, at the end of its input, or with its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from .artifact import is_artifact
from .errors import EngineFailure, RunError
from .executor import MODEL_FILE
from .inputs import random_inputs, read_inputs, write_arrays
from .manifest import Kind, SignatureEntry

Run = Callable[[dict[str, object]], list[Any]]
RunTimed = Callable[[dict[str, object]], dict[str, int]]

_FEWEST_RUNS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one contestant; the exit code is 0 also where a failure was reported in a line of its own."""
    options = _parser().parse_args(arguments)
    _end_with_parent()
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not get between the lines
    try:
        _serve(options, protocol)
    except RunError as error:
        _say(protocol, {"failure": str(error)})
    except OSError as error:
        _say(protocol, {"failure": f"{error.filename or 'its outputs'}: {(error.strerror or str(error)).lower()}"})
    except MemoryError:
        _say(protocol, {"failure": "it needs more memory than there is"})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="irc.runtime.worker", description="Measures one contestant; see irc bench.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--outputs", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--dim", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--engine", choices=("onnxruntime", "openvino", "openvino-default"), default="onnxruntime")
    parser.add_argument("--no-optimize", action="store_true")
    return parser


def _serve(options: argparse.Namespace, protocol: TextIO) -> None:
    _import_engine(options)
    begin = time.perf_counter()
    run, inputs, outputs, threads, run_timed = _load(options)
    loaded = time.perf_counter()
    dims = {name: int(size) for name, _, size in (each.rpartition("=") for each in options.dim)}
    feeds = read_inputs(inputs, options.inputs) if options.inputs else random_inputs(inputs, dims, options.seed)
    fed = time.perf_counter()
    results = run(feeds)
    first = time.perf_counter() - fed
    named = dict(zip(outputs, results, strict=True))
    if options.outputs:
        write_arrays(options.outputs, {name: _comparable(value) for name, value in named.items()})
    error = relative_error(named, options.reference) if options.reference else None
    differs = error == float("inf")
    ready = {"load_ms": (loaded - begin) * 1e3, "first_run_ms": first * 1e3, "threads": threads}
    _say(protocol, {**ready, "error": None if differs else error, "differs": differs})
    for line in sys.stdin:
        if line.strip() == "go":
            _say(protocol, _round(run, feeds, options.seconds))
        elif line.strip() == "kernels":
            _say(protocol, _kernels(run_timed, feeds, options.seconds))
        else:
            break
    _say(protocol, {"peak_memory": _peak_memory()})


def _import_engine(options: argparse.Namespace) -> None:
    """What the contestant runs on, and no more: importing it is no part of its loading, but its memory is the contestant's."""
    if is_artifact(options.model):
        if _has_onnx_model(options.model):
            import_module("onnxruntime")
    else:
        import_module(options.engine.partition("-")[0])


def _has_onnx_model(artifact: Path) -> bool:
    """Whether ONNX Runtime runs the artifact, or a part of it."""
    if artifact.is_dir():
        return any(artifact.rglob(MODEL_FILE))
    try:
        with zipfile.ZipFile(artifact) as archive:
            return any(name.rpartition("/")[2] == MODEL_FILE for name in archive.namelist())
    except zipfile.BadZipFile:  # loading it says so
        return False


class _Loaded(NamedTuple):
    """How to run a contestant, its inputs, the names of its outputs, the number of threads asked for, and its timed run."""

    run: Run
    inputs: tuple[SignatureEntry, ...]
    outputs: list[str]
    threads: int | None
    run_timed: RunTimed | None = None


def _load(options: argparse.Namespace) -> _Loaded:
    """A contestant, ready to run."""
    if is_artifact(options.model):
        from .program import load

        program = load(options.model, options.threads)
        program_run = program.run
        names = [each.name for each in program.outputs]
        return _Loaded(
            lambda feeds: list(program_run(feeds).values()), program.inputs, names, options.threads, program.run_timed
        )
    if options.engine != "onnxruntime":
        return _load_in_openvino(options)
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 4
    session_options.intra_op_num_threads = options.threads or 0
    if options.no_optimize:
        session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            options.model, session_options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:
        raise EngineFailure(f"ONNX Runtime cannot load it: {_short(error)}") from error
    inputs = tuple(_entry(each) for each in session.get_inputs())
    return _Loaded(_guarded(session.run), inputs, [each.name for each in session.get_outputs()], options.threads)


def _load_in_openvino(options: argparse.Namespace) -> _Loaded:
    """As `_load`, for a file that OpenVINO reads by itself."""
    import openvino

    from .openvino_executor import plain_run, reason

    try:
        model = openvino.Core().read_model(options.model)
        precision = "f32" if options.engine == "openvino" else None
        run, inputs, outputs = plain_run(model, options.threads, precision)
    except Exception as error:  # OpenVINO's exceptions have no common base but Exception
        raise EngineFailure(f"OpenVINO cannot load it: {reason(error)}") from error
    return _Loaded(run, inputs, outputs, options.threads)


def _guarded(session_run: Callable[..., Sequence[Any]]) -> Run:
    def run(feeds: dict[str, object]) -> list[Any]:
        try:
            return list(session_run(None, feeds))
        except Exception as error:
            raise EngineFailure(f"ONNX Runtime cannot run it: {_short(error)}") from error

    return run


_ONNX_TYPES = {"float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16", "string": "str", "bool": "bool"}
_INTEGER = re.compile(r"(u?)int(\d+)\Z")


def _entry(node: Any) -> SignatureEntry:
    """ONNX Runtime's description of an input, whose type reads like `tensor(float)` or `seq(tensor(int64))`."""
    kinds: dict[str, Kind] = {"seq": "sequence", "optional": "optional", "map": "map"}
    kind = kinds.get(node.type.partition("(")[0], "tensor")
    inner = node.type.rpartition("tensor(")[2].rstrip(")")
    match = _INTEGER.match(inner)
    dtype = f"{'u' if match[1] else 'i'}{match[2]}" if match else _ONNX_TYPES.get(inner, "f32")
    shape = tuple(dim if isinstance(dim, int | str) else None for dim in node.shape or ())
    return SignatureEntry(node.name, dtype, shape, kind)


def _round(run: Run, feeds: dict[str, object], seconds: float) -> dict[str, object]:
    """Run for `seconds`, one run more in front to wake everything up."""
    clock = time.perf_counter
    run(feeds)
    times: list[float] = []
    begin = now = clock()
    while now - begin < seconds or len(times) < _FEWEST_RUNS:
        before = clock()
        run(feeds)
        now = clock()
        times.append(now - before)
    p50, p90, p99 = (float(each) * 1e3 for each in np.percentile(times, (50, 90, 99)))
    return {"runs": len(times), "p50": p50, "p90": p90, "p99": p99, "throughput": len(times) / (now - begin)}


def _kernels(run_timed: RunTimed | None, feeds: dict[str, object], seconds: float) -> dict[str, object]:
    """As `_round`, of each kernel by itself: the median of the milliseconds that a run spends in it."""
    if run_timed is None:
        raise EngineFailure("it tells no times of its kernels")
    run_timed(feeds)
    runs: list[dict[str, int]] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(runs) < _FEWEST_RUNS:
        runs.append(run_timed(feeds))
    names = list(runs[0])
    medians = np.median([[run[name] for name in names] for run in runs], axis=0)
    return {"kernels": [{"name": name, "ms": float(each) / 1e6} for name, each in zip(names, medians, strict=True)]}


def relative_error(outputs: dict[str, Any], reference: Path) -> float:
    """The relative L2 distance of the worst output from the `.npz` file; infinite where one is missing or differs.

    Equal values count as no distance, infinities and NaN at the same place included.
    """
    worst = 0.0
    with np.load(reference, allow_pickle=False) as wanted:
        for name in wanted.files:
            want, got = wanted[name], _comparable(outputs.get(name, np.zeros(0)))
            if name not in outputs or want.shape != got.shape or want.dtype.kind != got.dtype.kind:
                return float("inf")
            if want.dtype.kind not in "biufc":
                worst = worst if np.array_equal(want, got) else float("inf")
                continue
            want, got = want.astype(np.complex128), got.astype(np.complex128)
            same = (want == got) | (np.isnan(want) & np.isnan(got))
            difference = float(np.linalg.norm(np.where(same, 0, got - want)))
            size = float(np.linalg.norm(np.where(np.isfinite(want), want, 0)))
            distance = difference / max(size, 1e-30)
            worst = max(worst, distance if np.isfinite(distance) else float("inf"))
    return worst


def _comparable(value: Any) -> np.ndarray:
    """An output as an array that `.npz` can hold without pickling."""
    if isinstance(value, list):
        parts = [np.asarray(each).reshape(-1) for each in value]
        return _comparable(np.concatenate(parts)) if parts and isinstance(value[0], np.ndarray) else _text(value)
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return _text(array.tolist()).reshape(array.shape) if array.ndim else _text(value)
    return array if array.dtype.kind in "biufcU" else array.astype(np.float64)


def _text(value: Any) -> np.ndarray:
    return np.asarray(value) if np.asarray(value).dtype.kind == "U" else np.asarray(repr(value))


def _peak_memory() -> float:
    """The largest resident size of this process in MiB."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _end_with_parent() -> None:
    """Leave interrupts to the parent, and die when it dies, also in the middle of native code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.platform.startswith("linux"):
        return  # the end of our input is noticed between two rounds
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    parent = os.environ.get("IRC_PARENT")
    if parent is not None and os.getppid() != int(parent):
        sys.exit(1)


def _say(protocol: TextIO, message: dict[str, Any]) -> None:
    try:
        protocol.write(json.dumps(message) + "\n")
        protocol.flush()
    except BrokenPipeError:
        os._exit(1)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    sys.exit(main())
