"""A compiled program: called with arrays by name, from any number of threads; what it returns belongs to the caller."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from .artifact import Artifact, StrPath, open_artifact, write_artifact, write_artifact_folder
from .errors import EngineFailure, FeedError
from .executor import Elsewhere, EngineFiles, Executor, Stepped, build_executor
from .manifest import Manifest, SignatureEntry
from .signature import FeedChecker, Feeds

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from .profiling import Profile

    Output = np.ndarray[Any, Any]


class Program:
    """A program ready to run; make one with `load`, `Program.from_artifact` or `Program.from_files`."""

    def __init__(self, manifest: Manifest, files: EngineFiles, executor: Executor, threads: int | None = None) -> None:
        self._manifest = manifest
        self._files: EngineFiles | None = files
        self._threads = threads
        self._executor: Executor | None = executor
        self._check = FeedChecker(manifest.inputs, manifest.dims_must_agree).check
        self._execute = executor.run
        self._names = tuple(each.name for each in manifest.outputs)

    @staticmethod
    def from_artifact(artifact: Artifact, threads: int | None = None) -> Program:
        """The program in an opened artifact; raises EngineFailure where its engine cannot build it."""
        program = Program.from_files(artifact.manifest, EngineFiles.from_artifact(artifact), threads)
        artifact.forget_pages()  # checking the hashes and building the session have read all of it
        return program

    @staticmethod
    def from_files(manifest: Manifest, files: EngineFiles, threads: int | None = None) -> Program:
        """A program from what a compiler holds in memory, nothing copied or hashed.

        The weights have to stay as they are while the program lives.
        """
        return Program(manifest, files, build_executor(manifest, files, threads), threads)

    @staticmethod
    def elsewhere(manifest: Manifest, files: EngineFiles, reason: str) -> Program:
        """A program for another machine: it can be saved, and running it raises EngineFailure with `reason`."""
        return Program(manifest, files, Elsewhere(manifest.target, reason))

    def saying(self, manifest: Manifest) -> Program:
        """The same program, which says `manifest` of itself; it has the engine of this one, which is not used any more."""
        assert self._executor is not None
        return Program(manifest, self._open_files(), self._executor, self._threads)

    @property
    def manifest(self) -> Manifest:
        """What the program says of itself."""
        return self._manifest

    @property
    def inputs(self) -> tuple[SignatureEntry, ...]:
        """The inputs, in order."""
        return self._manifest.inputs

    @property
    def outputs(self) -> tuple[SignatureEntry, ...]:
        """The outputs, in order."""
        return self._manifest.outputs

    @property
    def files(self) -> EngineFiles:
        """What it was made from; raises FeedError where it is closed."""
        return self._open_files()

    def run(self, feeds: Feeds) -> dict[str, Output]:
        """The outputs by name, in signature order.

        `feeds` maps input names to NumPy arrays, objects with `__dlpack__` (taken without a copy), Python numbers or
        lists; lists of arrays for sequences, None for an optional. Results share no memory with feeds, weights or each
        other; strings come as object arrays, sequences as lists. Raises FeedError for feeds that do not fit and
        EngineFailure where the engine fails.
        """
        return dict(zip(self._names, self.run_in_order(feeds), strict=True))  # type: ignore[return-value]

    def run_in_order(self, feeds: Feeds) -> list[object]:
        """The outputs in signature order, without their names; else as `run`."""
        return self._execute(self._check(feeds))

    def run_timed(self, feeds: Feeds) -> dict[str, int]:
        """Run once, and the nanoseconds that each kernel of our own took, by its name in the library.

        What another engine runs of a program of several parts has the name of its part. Raises as `run` does, and EngineFailure
        where another engine runs all of it.
        """
        if not isinstance(self._executor, Stepped):
            raise EngineFailure(f"{self._manifest.engine} tells no times of kernels while it runs")
        return self._executor.run_by_kernel(self._check(feeds))[1]

    def profile(self, feeds: Feeds, runs: int = 20) -> Profile:
        """Run `runs` times on `feeds`, in a session of its own with as many threads, and what each kernel took.

        Raises as `run` does, and EngineFailure where the engine keeps no times.
        """
        from .profiling import profile

        return profile(self._manifest, self._open_files(), self._check(feeds), runs, self._threads)

    def save(self, path: StrPath) -> None:
        """Write the program as an `.irc` file; the same program always makes the same bytes. Raises ArtifactError."""
        write_artifact(path, self._manifest, self._open_files().to_chunks())

    def save_folder(self, path: StrPath) -> None:
        """Write the program as a folder, which must not exist yet; other tools can open the `model.onnx` in it."""
        write_artifact_folder(path, self._manifest, self._open_files().to_chunks())

    def close(self) -> None:
        """Let go of the engine and the artifact; runs under way in other threads end normally."""
        if self._executor is not None:
            self._executor.close()
        self._executor = self._files = None
        self._execute = _refuse

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, each)) for each in (self.inputs, self.outputs))
        return f"<Program ({inputs}) -> ({outputs}) on {self._manifest.engine}>"

    def _open_files(self) -> EngineFiles:
        if self._files is None:
            raise _closed()
        return self._files


def load(path: StrPath, threads: int | None = None) -> Program:
    """The program in an `.irc` file or folder, every hash checked first.

    `threads` is the number that works on one op; None takes what the artifact says, and that is usually one per
    physical core. Raises ArtifactError for a damaged artifact and EngineFailure where its engine cannot build it.
    """
    return Program.from_artifact(open_artifact(path), threads)


def _closed() -> FeedError:
    return FeedError("the program is closed", hint="load it again")


def _refuse(feeds: dict[str, object]) -> list[object]:
    raise _closed()
