"""Times of kernels in place: a program in a process of its own is asked, turn by turn, for a run or for its kernels.

Law: nobody waits beyond the deadline, and no process is left behind, an interrupt included.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from .measuring import Contestant, Round, Workload, arguments
from .strict_json import Fields
from .workers import Late, Worker, no_interrupt

_PATIENCE = 10.0
"""Seconds that a turn may take beyond what it should."""


class Timed:
    """A program in a process of its own, from when a `with` block begins to its end."""

    def __init__(self, contestant: Contestant, workload: Workload, outputs: Path, deadline: float) -> None:
        """What it answers is left in `outputs`; `deadline` is a time of `time.monotonic` up to which there are answers.

        Entering the block loads it and runs it once, and raises EngineFailure where that fails, or is not done in time.
        """
        self._contestant = contestant
        self._workload = workload
        self._outputs = outputs
        self._deadline = deadline

    def __enter__(self) -> Timed:
        words = [*arguments(self._contestant, self._workload), "--outputs", str(self._outputs)]
        with no_interrupt():
            self._worker = Worker(self._contestant.name, words)
        try:
            self._answer(self._workload.timeout)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._worker.kill()
        self._worker.__exit__(kind, error, traceback)

    def run(self) -> float:
        """The median milliseconds of a run, in one turn; raises EngineFailure where it dies or comes too late."""
        self._worker.ask("go")
        return Round.from_json(self._answer(self._workload.seconds + _PATIENCE)).p50

    def kernels(self) -> dict[str, float]:
        """The median milliseconds that a run spends in each kernel, by its name, in one turn; raises as `run` does."""
        self._worker.ask("kernels")
        return dict(self._answer(self._workload.seconds + _PATIENCE).objects("kernels", _named_time))

    def _answer(self, patience: float) -> Fields:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Late("there was no time to ask it", location=self._contestant.name)
        return self._worker.answer(min(patience, left))


def _named_time(fields: Fields) -> tuple[str, float]:
    return fields.text("name"), fields.optional_number("ms") or 0.0


__all__ = ["Timed"]
