"""A measuring process seen from its parent: never left behind, and its death is explained in one sentence."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from types import TracebackType

from .errors import ArtifactError, EngineFailure
from .scratch import no_scratch
from .strict_json import Fields, parse_object

_LAST_BREATH = 2.0
"""Seconds that a process may take to end once it says nothing more."""


@contextlib.contextmanager
def no_interrupt() -> Generator[Callable[[], object]]:
    """Ctrl-C waits until the block ends, or what it yields is called; in the main thread, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield lambda: None
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Late(EngineFailure):
    """No answer yet; the process may be slow, or hang."""


class Worker:
    """One process running `irc.runtime.worker`; as a context manager it is gone at the end, whatever happened."""

    def __init__(self, name: str, arguments: Sequence[str], module: str = f"{__package__}.worker") -> None:
        self.name = name
        try:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__, after the process
        except OSError as error:
            raise no_scratch(tempfile.tempdir or "the folder for temporary files", error) from error
        paths = [each for each in sys.path if each]
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        with no_interrupt() as again:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                    process_group=0,  # Ctrl-C is for the parent, which decides what becomes of its processes
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "IRC_PARENT": str(os.getpid())},
                )
            except OSError as error:
                self._complaints.close()
                raise EngineFailure(
                    f"no process can be started: {(error.strerror or str(error)).lower()}", location=name
                ) from error
            # Ctrl-C may come when this is made and no block has begun yet that would end the process.
            self._left = weakref.finalize(self, _end, self._process)
            try:
                again()
                threading.Thread(target=self._listen, daemon=True).start()
            except BaseException:  # Ctrl-C came while the process started, and nobody else knows of it
                self._process.kill()
                self._process.wait()
                raise

    def ask(self, line: str) -> None:
        """Send a line; that nobody reads it any more is seen at the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return

    def answer(self, timeout: float) -> Fields:
        """The next line, waited for at most `timeout` seconds; raises Late where none comes, EngineFailure where none will."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise Late(f"did not answer within {timeout:.3g} s", location=self.name) from None
        if not line:
            raise self._death()
        try:
            fields = parse_object(line, self.name)
        except ArtifactError as error:
            raise EngineFailure(f"its process said what is no answer: {error.message}", location=self.name) from error
        failure = fields.optional_text("failure")
        if failure is not None:
            raise EngineFailure(failure, location=self.name)
        return fields

    def finish(self, timeout: float) -> float:
        """Let the process end; the largest memory it had, in MiB."""
        self.ask("stop")
        return self.answer(timeout).optional_number("peak_memory") or 0.0

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            self._process.kill()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._left.detach()
        self._complaints.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(b"")

    def _death(self) -> EngineFailure:
        try:
            code = self._process.wait(timeout=_LAST_BREATH)
        except subprocess.TimeoutExpired:
            self.kill()
            return EngineFailure("its process stopped answering", location=self.name)
        self._complaints.seek(0)
        said = self._complaints.read()[-10_000:].decode("utf-8", "replace").strip().splitlines()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        last = f": {said[-1].strip()[:300]}" if said else ""
        return EngineFailure(f"its process {how}{last}", location=self.name)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _signal_name(number: int) -> str:
    names = {each.value: each.name for each in signal.Signals}
    return names.get(number, f"signal {number}")
