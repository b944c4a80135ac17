"""Files that processes of their own make, several at a time, and that are kept in the user's cache.

Law: what is there is not made again, and no process is started for it; whatever happens, no process is left behind.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from irc.runtime import Worker, read_entry, scratch_folder, write_entry

_TIMEOUT = 300.0
"""Seconds that one file may take."""


@dataclass(frozen=True, slots=True)
class Maker:
    """The module that a process runs, which calls `serving.make_files`: what errors call it, and what follows its folder."""

    name: str
    module: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is asked for, besides a name, and the entry of the cache for what it makes of it.

    The name of the entry follows from all that the file depends on.
    """

    entry: str
    asked: Mapping[str, str]


def made(tasks: Mapping[str, Task], maker: Maker, jobs: int, deadline: float = math.inf) -> dict[str, bytes]:
    """The files of tasks, by the same names and in the same order; at most `jobs` are made at a time.

    Raises EngineFailure where one cannot be made, or is not done at `deadline`, a time of `time.monotonic`.
    """
    kept = {name: read_entry(task.entry).content for name, task in tasks.items()}
    missing = {name: tasks[name] for name, content in kept.items() if content is None}
    new = _made_anew(missing, maker, jobs, deadline) if missing else {}
    return {name: new[name] if content is None else content for name, content in kept.items()}


def _made_anew(tasks: Mapping[str, Task], maker: Maker, jobs: int, deadline: float) -> dict[str, bytes]:
    """What processes make of tasks, put in the cache."""
    jobs = max(1, min(jobs, len(tasks)))
    lines = {name: json.dumps({"name": name, **task.asked}) for name, task in tasks.items()}
    # The longest first: a process that gets one last keeps all others waiting.
    rest = deque(sorted(lines, key=lambda name: (-len(lines[name]), name)))
    files: dict[str, bytes] = {}
    workers: list[Worker] = []
    with scratch_folder("kernels") as folder, ThreadPoolExecutor(jobs) as threads:

        def serve() -> None:
            with Worker(maker.name, (str(folder), *maker.arguments), maker.module) as worker:
                workers.append(worker)
                while rest:
                    try:
                        name = rest.popleft()
                    except IndexError:  # another thread was faster
                        return
                    files[name] = _answer(worker, lines[name], folder, deadline)
                    write_entry(tasks[name].entry, files[name])

        futures = [threads.submit(serve) for _ in range(jobs)]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:  # Ctrl-C too: the threads end with their processes
            rest.clear()
            for worker in workers:
                worker.kill()
            raise
    return files


def _answer(worker: Worker, line: str, folder: Path, deadline: float) -> bytes:
    worker.ask(line)
    fields = worker.answer(min(_TIMEOUT, max(0.0, deadline - time.monotonic())))
    path = folder / fields.text("file")
    fields.finish()
    content = path.read_bytes()
    path.unlink()
    return content
