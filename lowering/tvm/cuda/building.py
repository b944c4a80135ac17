"""Kernels for GPUs: code is made once for each distinct region, in processes of their own, and all of it is compiled together.

Law: what is in the cache is what would be made: its name follows from all that it depends on. Where all is there, neither TVM
nor NVRTC is imported.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from irc.runtime import Worker, read_entry, scratch_folder, write_entry

from .. import adapter
from . import nvrtc
from .code import Code
from .worker import SOURCE

FORMAT = 1
"""Goes up when `adapter` makes other code of the same model, or `source` cleans it otherwise."""

_TIMEOUT = 300.0
"""Seconds that one task may take."""


def codes(models: Iterable[bytes], architecture: str, jobs: int) -> dict[bytes, Code]:
    """The code of each of the models; raises EngineFailure where TVM does not take one."""
    version = adapter.installed_version()
    names = {model: _name(FORMAT, version, architecture, model) for model in models}
    entries = {name: f"region-{name}.json" for name in names.values()}
    made = _made({name: model for model, name in names.items()}, entries, architecture, jobs, ".onnx")
    return {model: Code.from_bytes(made[name]) for model, name in names.items()}


def image(source: str, architecture: str) -> bytes:
    """What the driver loads; raises EngineFailure where NVRTC refuses the source."""
    name = _name(FORMAT, nvrtc.installed_version(), architecture, source.encode())
    return _made({name: source.encode()}, {name: f"image-{name}"}, architecture, 1, SOURCE)[name]


def _name(*parts: object) -> str:
    """A name for a kernel and a file that follows from what it is made of."""
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{len(content)} ".encode() + content)
    return f"irc_{digest.hexdigest()[:20]}"


def _made(
    tasks: Mapping[str, bytes], entries: Mapping[str, str], architecture: str, jobs: int, suffix: str
) -> dict[str, bytes]:
    """What is made of each task, from the cache where it is there."""
    kept = {name: read_entry(entries[name]).content for name in tasks}
    missing = {name: tasks[name] for name, content in kept.items() if content is None}
    made = _worked(missing, architecture, jobs, suffix, lambda name, content: write_entry(entries[name], content))
    return {name: made[name] if content is None else content for name, content in kept.items()}


def _worked(
    tasks: Mapping[str, bytes], architecture: str, jobs: int, suffix: str, keep: Callable[[str, bytes], object]
) -> dict[str, bytes]:
    """What processes make of tasks; whatever happens, none is left behind."""
    if not tasks:
        return {}
    rest, made, workers = deque(tasks), dict[str, bytes](), list[Worker]()
    jobs = max(1, min(jobs, len(tasks)))
    with scratch_folder("kernels") as folder, ThreadPoolExecutor(jobs) as threads:

        def serve() -> None:
            with Worker("making kernels", (str(folder), architecture), f"{__package__}.worker") as worker:
                workers.append(worker)
                while rest:
                    try:
                        name = rest.popleft()
                    except IndexError:  # another thread was faster
                        return
                    made[name] = _ask(worker, name, tasks[name], folder, suffix)
                    keep(name, made[name])

        futures = [threads.submit(serve) for _ in range(jobs)]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:  # Ctrl-C too: the threads end with their processes
            rest.clear()
            for worker in workers:
                worker.kill()
            raise
    return made


def _ask(worker: Worker, name: str, content: bytes, folder: Path, suffix: str) -> bytes:
    file = Path(folder, f"{name}{suffix}")
    file.write_bytes(content)
    worker.ask(f'{{"name": "{name}", "file": "{file.name}"}}')
    fields = worker.answer(_TIMEOUT)
    path = Path(folder, fields.text("file"))
    fields.finish()
    made = path.read_bytes()
    path.unlink()
    file.unlink()
    return made


__all__ = ["codes", "image"]
