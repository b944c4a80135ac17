"""What an engine's executor is to a program: built from files and weights, and called with checked feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .artifact import Artifact
from .errors import ArtifactError
from .manifest import Manifest
from .weights import WEIGHTS_FILE, WeightView, layout_weights, read_weights
from .zip_store import Buffer


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """What an executor is built from: its files as chunks of bytes, and the weights by name; neither is copied."""

    files: Mapping[str, Sequence[Buffer]]
    weights: Mapping[str, WeightView]

    @staticmethod
    def from_artifact(artifact: Artifact) -> EngineFiles:
        """The files of an artifact, as views of its mapped memory."""
        files = {name: (artifact.read(name),) for name in artifact.names if name != WEIGHTS_FILE}
        location = f"{artifact.path}: {WEIGHTS_FILE}"
        has_weights = WEIGHTS_FILE in artifact.names
        return EngineFiles(files, read_weights(artifact.read(WEIGHTS_FILE), location) if has_weights else {})

    def to_chunks(self) -> dict[str, Sequence[Buffer]]:
        """The files as an artifact holds them, the weights in one file of their own where there are any."""
        weights = {WEIGHTS_FILE: layout_weights(self.weights).chunks} if self.weights else {}
        return {**self.files, **weights}

    def read(self, name: str) -> bytes:
        """One file in one piece; raises ArtifactError where there is none."""
        if name not in self.files:
            raise ArtifactError(f"the artifact has no file {name}, which its engine needs")
        return b"".join(self.files[name])


class Executor(Protocol):
    """Runs a program's files on one engine; `run` may be called from several threads at once."""

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order, none sharing memory with a feed or another output; raises EngineFailure."""
        ...

    def close(self) -> None:
        """Let go of the engine; runs under way end normally."""
        ...


def build_executor(manifest: Manifest, files: EngineFiles, threads: int | None) -> Executor:
    """The executor that the manifest names; raises ArtifactError for one unknown and EngineFailure where it fails."""
    if manifest.engine == "onnxruntime":
        from .onnxruntime_executor import OnnxRuntimeExecutor, OnnxRuntimeOptions

        options = OnnxRuntimeOptions.from_manifest(manifest.engine_options)
        if threads is not None:
            options = replace(options, threads=threads)
        return OnnxRuntimeExecutor(files.read("model.onnx"), files.weights, options, manifest.inputs, manifest.outputs)
    raise ArtifactError(f"the artifact is for the engine {manifest.engine}, which this release cannot run")
