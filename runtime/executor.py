"""What an engine's executor is to a program: built from files and weights, and called with checked feeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from .artifact import Artifact
from .errors import ArtifactError, EngineFailure
from .links import LINKS_FILE, Links, find_links, resolve
from .manifest import Manifest, OptionValue, SignatureEntry
from .plan import PLAN, PLAN_FILE, Plan, Step
from .plan_executor import PlanExecutor
from .weights import WEIGHTS_FILE, WeightView, layout_weights, read_weights
from .zip_store import Buffer

MODEL_FILE = "model.onnx"
"""The file that ONNX Runtime runs."""


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """What an executor is built from: its files as chunks of bytes, and the weights by name; neither is copied.

    `parts` are the files of each part of a plan, by the name of their folder.
    """

    files: Mapping[str, Sequence[Buffer]]
    weights: Mapping[str, WeightView]
    parts: Mapping[str, EngineFiles] = field(default_factory=dict[str, "EngineFiles"])

    @staticmethod
    def from_artifact(artifact: Artifact) -> EngineFiles:
        """The files of an artifact, as views of its mapped memory."""
        names = sorted({name.partition("/")[0] for name in artifact.names if "/" in name})
        whole = _in_folder(artifact, "")
        parts = {part: _in_folder(artifact, f"{part}/") for part in names}
        files = {name: chunks for name, chunks in whole.files.items() if name != LINKS_FILE}
        if LINKS_FILE in whole.files:
            parts = _linked(parts, Links.from_bytes(whole.read(LINKS_FILE)))
        return EngineFiles(files, whole.weights, parts)

    def to_chunks(self) -> dict[str, Sequence[Buffer]]:
        """The files as an artifact holds them, the weights in one file of their own where there are any.

        What parts share in memory is there once, and a table in a file of its own says where.
        """
        chunks = dict(self.files)
        if self.weights:
            chunks[WEIGHTS_FILE] = layout_weights(self.weights).chunks
        parts = dict(sorted(self.parts.items()))
        links = find_links({p: own.weights for p, own in parts.items()}, {p: own.files for p, own in parts.items()})
        if links:
            chunks[LINKS_FILE] = (links.to_bytes(),)
        for part, own in parts.items():
            files = {name: each for name, each in own.files.items() if (part, name) not in links.files}
            weights = {name: each for name, each in own.weights.items() if (part, name) not in links.weights}
            chunks.update((f"{part}/{name}", each) for name, each in EngineFiles(files, weights).to_chunks().items())
        return chunks

    def read(self, name: str) -> bytes:
        """One file in one piece; raises ArtifactError where there is none."""
        return b"".join(self._chunks(name))

    def view(self, name: str) -> Buffer:
        """As `read`, but without a copy where the file is one piece already."""
        chunks = self._chunks(name)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _chunks(self, name: str) -> Sequence[Buffer]:
        if name not in self.files:
            raise ArtifactError(f"the artifact has no file {name}, which its engine needs")
        return self.files[name]


def _in_folder(artifact: Artifact, folder: str) -> EngineFiles:
    """The files right in a folder, whose name ends in a slash; in none for an empty one."""
    names = [each.removeprefix(folder) for each in artifact.names if each.startswith(folder)]
    files = {name: (artifact.read(folder + name),) for name in names if "/" not in name and name != WEIGHTS_FILE}
    location = f"{artifact.path}: {folder}{WEIGHTS_FILE}"
    return EngineFiles(files, read_weights(artifact.read(folder + WEIGHTS_FILE), location) if WEIGHTS_FILE in names else {})


def _linked(parts: Mapping[str, EngineFiles], links: Links) -> dict[str, EngineFiles]:
    """The parts with what a table says is another's; raises ArtifactError where that is not there."""
    files = {(part, name): chunks for part, own in parts.items() for name, chunks in own.files.items()}
    weights = {(part, name): weight for part, own in parts.items() for name, weight in own.weights.items()}
    resolve(links.files, files, "file")
    resolve(links.weights, weights, "weight")
    files.update((place, files[target]) for place, target in links.files.items())
    weights.update((place, weights[target]) for place, target in links.weights.items())
    names = dict.fromkeys(part for part, _ in (*files, *weights))
    return {
        each: EngineFiles(
            {name: chunks for (part, name), chunks in files.items() if part == each},
            {name: weight for (part, name), weight in weights.items() if part == each},
        )
        for each in names
    }


class Executor(Protocol):
    """Runs a program's files on one engine; `run` may be called from several threads at once."""

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order, none sharing memory with a feed or another output; raises EngineFailure."""
        ...

    def close(self) -> None:
        """Let go of the engine; runs under way end normally."""
        ...


@runtime_checkable
class Stepped(Protocol):
    """What an executor may have beside: kernels that are timed while it runs."""

    def run_by_kernel(self, feeds: dict[str, object]) -> tuple[list[object], dict[str, int]]:
        """As `run`, with the nanoseconds that were spent in each kernel, by its name."""
        ...


class Elsewhere:
    """The executor of a program that cannot run here."""

    def __init__(self, target: str, reason: str) -> None:
        self._failure = f"the program is for the target {target}: {reason}"

    def run(self, feeds: dict[str, object]) -> list[object]:
        """Raises EngineFailure."""
        raise EngineFailure(self._failure, hint="save it, and load it where it is for")

    def close(self) -> None:
        """Nothing to do."""


def build_executor(manifest: Manifest, files: EngineFiles, threads: int | None) -> Executor:
    """The executor that the manifest names; raises ArtifactError for one unknown and EngineFailure where it fails."""
    if manifest.engine == PLAN:
        plan = Plan.from_bytes(files.read(PLAN_FILE))
        return PlanExecutor(plan, manifest.inputs, manifest.outputs, lambda step: _build_step(step, files, threads))
    return _build(manifest.engine, manifest.engine_options, files, manifest.inputs, manifest.outputs, threads)


def _build_step(step: Step, files: EngineFiles, threads: int | None) -> Executor:
    if step.part not in files.parts:
        raise ArtifactError(f"the artifact has no folder {step.part}, which its plan needs")
    return _build(step.engine, step.options, files.parts[step.part], step.inputs, step.outputs, threads)


def _build(
    engine: str,
    options: Mapping[str, OptionValue],
    files: EngineFiles,
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
    threads: int | None,
) -> Executor:
    if engine not in EXECUTORS:
        raise ArtifactError(f"the artifact is for the engine {engine}, which this release cannot run")
    given = options if threads is None else {**options, "threads": threads}
    return EXECUTORS[engine](files, given, inputs, outputs)


Build: TypeAlias = Callable[
    [EngineFiles, Mapping[str, OptionValue], Sequence[SignatureEntry], Sequence[SignatureEntry]], Executor
]
"""Makes the executor of an engine from its files and options, inputs and outputs; raises EngineFailure where it fails."""


def _onnxruntime(
    files: EngineFiles,
    options: Mapping[str, OptionValue],
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
) -> Executor:
    from .onnxruntime_executor import OnnxRuntimeExecutor, OnnxRuntimeOptions

    chosen = OnnxRuntimeOptions.from_manifest(options)
    return OnnxRuntimeExecutor(files.read(MODEL_FILE), files.weights, chosen, inputs, outputs)


def _openvino(
    files: EngineFiles,
    options: Mapping[str, OptionValue],
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
) -> Executor:
    from .openvino_executor import BIN_FILE, XML_FILE, OpenVinoExecutor, OpenVinoOptions

    chosen = OpenVinoOptions.from_manifest(options)
    return OpenVinoExecutor(files.read(XML_FILE), files.view(BIN_FILE), chosen, inputs, outputs)


def _tvm(
    files: EngineFiles,
    options: Mapping[str, OptionValue],
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
) -> Executor:
    from .cuda_executor import LAUNCHES_FILE, CudaExecutor
    from .native_executor import NativeExecutor, NativeOptions

    if LAUNCHES_FILE in files.files:
        NativeOptions.from_manifest(options)  # threads are for the CPU
        return CudaExecutor(files, inputs, outputs)
    return NativeExecutor(files, NativeOptions.from_manifest(options), inputs, outputs)


EXECUTORS: dict[str, Build] = {"onnxruntime": _onnxruntime, "openvino": _openvino, "tvm": _tvm}
"""How the programs of each engine are run, by the engine's name; an engine of your own adds itself."""
