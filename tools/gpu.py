"""All that needs a GPU, in one command: the tests marked `gpu`, then models in turns against plain ONNX Runtime, in one table.

    python3 dev.py gpu [FOLDER OF MODELS]

Every contestant has a process of its own; they take turns, and a figure is the median of a contestant's turns. f32 is f32 for
all of them (TF32 off). It ends within five minutes: models that there is no time for are named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from irc.runtime import cuda_driver

from .gpu_models import built_in

if TYPE_CHECKING:
    from irc.runtime import OptionValue

    Run = Callable[[], object]

TESTS = 130.0
"""Seconds for the tests."""
MODELS = 100.0
"""Seconds for all models together."""
TURNS, TURN = 5, 0.3
"""Turns of each contestant and seconds of each turn."""
UNSUPPORTED = 4
"""The exit code where there is no GPU: nothing has failed, and nothing was found out."""

CONTESTANTS = ("irc, CPU", "onnxruntime-gpu", "irc, CUDA", "irc, CUDA graph", "irc, own kernels")


@dataclass
class Row:
    """A model's milliseconds by contestant, and what to say of it where some are missing."""

    model: str
    times: dict[str, float] = field(default_factory=dict[str, float])
    remark: str = ""

    def failed(self, reason: str) -> None:
        """Say what failed, beside what has failed before."""
        self.remark = f"{self.remark}; {reason}" if self.remark.startswith("failed: ") else f"failed: {reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 good, 1 a test or a model failed, 4 no GPU."""
    parser = argparse.ArgumentParser(prog="dev.py gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="?", type=Path, help="a folder of .onnx files; built-in models without it")
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU")
    parser.add_argument("--serve", nargs=3, metavar=("CONTESTANT", "FILE", "INPUTS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return _serve(options.serve[0], Path(options.serve[1]), Path(options.serve[2]))
    driver = cuda_driver()
    if not driver.gpus:
        print(f"irc: nothing was run: {driver.reason}", file=sys.stderr)
        return UNSUPPORTED
    if options.check:
        return 0
    passed = _tests()
    rows = list(_benchmarks(options.models, time.monotonic() + MODELS))
    gpu = driver.gpus[0]
    print(f"\n{gpu.name}, sm_{gpu.compute_capability[0]}{gpu.compute_capability[1]}, driver for CUDA {driver.version}\n")
    print(table(rows))
    print(f"\ntests: {'passed' if passed else 'FAILED'}")
    return 0 if passed and not any(row.remark.startswith("failed") for row in rows) else 1


def table(rows: Sequence[Row]) -> str:
    """Markdown: milliseconds of each contestant, and how much faster irc's better one on the GPU is than plain ONNX Runtime."""
    names = " | ".join(f"{name}, ms" for name in CONTESTANTS)
    lines = [f"| model | {names} | faster | |", f"|---|{'---:|' * (len(CONTESTANTS) + 1)}---|"]
    for row in rows:
        times = [f"{row.times[name]:.3g}" if name in row.times else "–" for name in CONTESTANTS]
        lines.append(f"| {row.model} | {' | '.join(times)} | {_ratio(row.times)} | {row.remark} |")
    return "\n".join(lines)


def _ratio(times: Mapping[str, float]) -> str:
    ours = [times[name] for name in CONTESTANTS[2:] if name in times]
    return f"{times[CONTESTANTS[1]] / min(ours):.2f} x" if ours and CONTESTANTS[1] in times else "–"


def _tests() -> bool:
    root = Path(__file__).resolve().parent.parent
    places = ("tests/gpu", "tests/lowering/tvm/cuda/test_on_gpu.py", "tests/runtime/test_machine.py")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", *places]
    try:
        return subprocess.run(command, cwd=root, check=False, timeout=TESTS).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"irc: the tests were ended after {TESTS:.0f} s", file=sys.stderr)
        return False


def _benchmarks(folder: Path | None, deadline: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="irc-gpu-") as place:
        paths = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_size) if folder else built_in(Path(place))
        rows: list[Row] = []
        for path in paths:
            if time.monotonic() > deadline:
                rows.append(Row(path.stem, remark="no time was left"))
                continue
            print(f"{path.stem} …", flush=True)
            rows.append(compare(path, Path(place), deadline))
        return rows


def compare(path: Path, place: Path, deadline: float) -> Row:
    """One model against the others, in turns; what fails is said in its row."""
    row = Row(path.stem)
    running: dict[str, _Contestant] = {}
    try:
        for name, file in _files(path, place, row).items():
            try:
                running[name] = _Contestant(name, file, place / "inputs.npz", max(10.0, deadline - time.monotonic()))
            except RuntimeError as error:
                row.failed(f"{name}: {error}")
        turns: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(TURNS):
            for name, contestant in running.items():
                turns[name].append(contestant.turn())
        row.times = {name: statistics.median(found) for name, found in turns.items()}
    except RuntimeError as error:
        row.failed(str(error))
    finally:
        for contestant in running.values():
            contestant.end()
    return row


def _files(path: Path, place: Path, row: Row) -> dict[str, Path]:
    """What each contestant loads, and the inputs for all; a CUDA graph and own kernels are left out where there can be none."""
    from irc.ir import IrcError
    from irc.lowering import CompileOptions, compile_model
    from irc.runtime import RunError, random_inputs, read_inputs, write_arrays

    found = {CONTESTANTS[1]: path}
    shapes: dict[str, tuple[int | None, ...]] = {}
    for name in (CONTESTANTS[0], *CONTESTANTS[2:]):
        target = "cpu" if name == CONTESTANTS[0] else "cuda"
        options = CompileOptions(target, engine="onnxruntime")
        if name == CONTESTANTS[3]:
            options = CompileOptions(target, engine="onnxruntime", shapes=shapes, engine_options=graph_options())
        elif name == CONTESTANTS[4]:
            options = CompileOptions(target, engine="tvm", shapes=shapes)
        try:
            with compile_model(path, options).program as program:
                if not shapes:
                    given = path.with_suffix(".npz")
                    feeds = read_inputs(program.inputs, given) if given.exists() else random_inputs(program.inputs, {}, 0)
                    write_arrays(place / "inputs.npz", cast("dict[str, Any]", feeds))
                    shapes = {each: cast("Any", feeds[each]).shape for each in feeds}
                found[name] = place / f"{path.stem}-{len(found)}.irc"
                program.save(found[name])
        except (IrcError, RunError) as error:
            found.pop(name, None)
            if name not in CONTESTANTS[3:]:
                row.failed(f"{name}: {error.message}")
            elif not row.remark:
                row.remark = error.message
    return {name: found[name] for name in CONTESTANTS if name in found}


def graph_options() -> dict[str, OptionValue]:
    """The engine's options for a CUDA graph."""
    from irc.lowering import Varied, find_engine, find_target

    engine = find_engine("onnxruntime")
    assert isinstance(engine, Varied)
    return {"provider_options": engine.variants(find_target("cuda"))["CUDA graph"]["provider_options"]}


class _Contestant:
    """A process that runs one contestant whenever it is asked to."""

    def __init__(self, name: str, file: Path, inputs: Path, timeout: float) -> None:
        """Raises RuntimeError with the process's own words where it does not get ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irc.tools.gpu", "--serve", name, str(file), str(inputs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._timer = threading.Timer(timeout, self._process.kill)
        self._timer.start()
        try:
            self.turn()  # it loads, and captures a graph where there is one
        except RuntimeError:
            self.end()
            raise

    def turn(self) -> float:
        """Milliseconds of a run, the median of one turn."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except OSError:
            pass  # that it died is seen at its answer
        said = json.loads(self._process.stdout.readline() or '{"failure": "its process died or took too long"}')
        if "failure" in said:
            raise RuntimeError(said["failure"])
        return float(said["milliseconds"])

    def end(self) -> None:
        """End the process."""
        self._timer.cancel()
        self._process.kill()
        self._process.wait()


def _serve(name: str, file: Path, inputs: Path) -> int:
    """The other side of a contestant."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    try:
        run = _plain(file, inputs) if name == CONTESTANTS[1] else _ours(file, inputs)
        for _ in sys.stdin:
            print(json.dumps({"milliseconds": _turn(run)}), file=answers, flush=True)
    except Exception as error:  # whatever it is, it is what the row says
        print(json.dumps({"failure": " ".join(str(error).split())[:200]}), file=answers, flush=True)
        return 1
    return 0


def _turn(run: Run) -> float:
    times: list[float] = []
    end = time.perf_counter() + TURN
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def _ours(file: Path, inputs: Path) -> Run:
    from irc.runtime import load, read_inputs

    program = load(file)
    feeds = read_inputs(program.inputs, inputs)
    return lambda: program.run(feeds)


def _plain(file: Path, inputs: Path) -> Run:
    import numpy as np
    import onnxruntime  # type: ignore[unknown]  # it has no types

    library: Any = onnxruntime
    library.preload_dlls()
    providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    session = library.InferenceSession(str(file), providers=providers)
    if "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("ONNX Runtime could not start its CUDA provider; irc doctor says what is missing")
    with np.load(inputs) as arrays:
        feeds = dict(arrays)
    return lambda: session.run(None, feeds)


if __name__ == "__main__":
    sys.exit(main())
