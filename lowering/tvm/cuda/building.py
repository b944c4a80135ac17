"""Kernels for GPUs: code is made once for each distinct region, in processes of their own, and all of it is compiled together.

Law: what is in the cache is what would be made: its name follows from all that it depends on. Where all is there, neither TVM
nor NVRTC is imported.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from .. import adapter
from ..making import Maker, Task, made
from . import nvrtc
from .code import Code

FORMAT = 1
"""Goes up when `adapter` makes other code of the same model, or `source` cleans it otherwise."""


def codes(models: Iterable[bytes], architecture: str, jobs: int) -> dict[bytes, Code]:
    """The code of each of the models; raises EngineFailure where TVM does not take one."""
    version = adapter.installed_version()
    names = {model: _name(FORMAT, version, architecture, model) for model in models}
    tasks = {name: Task(f"region-{name}.json", {"model": base64.b64encode(model).decode()}) for model, name in names.items()}
    files = made(tasks, _maker(architecture), jobs)
    return {model: Code.from_bytes(files[name]) for model, name in names.items()}


def image(source: str, architecture: str) -> bytes:
    """What the driver loads; raises EngineFailure where NVRTC refuses the source."""
    name = _name(FORMAT, nvrtc.installed_version(), architecture, source.encode())
    return made({name: Task(f"image-{name}", {"source": source})}, _maker(architecture), 1)[name]


def _maker(architecture: str) -> Maker:
    return Maker("making kernels", f"{__package__}.worker", (architecture,))


def _name(*parts: object) -> str:
    """A name for a kernel and a file that follows from what it is made of."""
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{len(content)} ".encode() + content)
    return f"irc_{digest.hexdigest()[:20]}"


__all__ = ["codes", "image"]
