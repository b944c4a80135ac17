"""Which package the installed ONNX Runtime is of: several own the same folder, and the one installed last has its files there.

It is read from files, without importing ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

CPU, GPU = "onnxruntime", "onnxruntime-gpu"

_INFORMATION = "capi/build_and_package_info.py"


@dataclass(frozen=True)
class Package:
    """The package whose files are found and its version, both empty where there is none; `others` own the folder too."""

    name: str = ""
    version: str = ""
    others: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def package() -> Package:
    """The installed one."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return Package()
    return read_package(Path(found.origin).parent, tuple(name for name in (CPU, GPU) if _is_installed(name)))


def install_gpu() -> str:
    """The command that makes the kernels for NVIDIA GPUs the ones that are found."""
    if GPU in package().others:
        return f"pip install --force-reinstall --no-deps {GPU}=={metadata.version(GPU)}"
    return "pip install 'irc-compiler[cuda]'"


def read_package(folder: Path, installed: tuple[str, ...]) -> Package:
    """The package whose files lie in the folder `onnxruntime/`, where those `installed` own it."""
    try:
        text = (folder / _INFORMATION).read_text(encoding="utf-8")
    except OSError:
        text = ""
    said = dict(re.findall(r"^(package_name|__version__) = '([^'\n]*)'", text, re.MULTILINE))
    if "package_name" not in said:
        return Package()
    name = said["package_name"]
    return Package(name, said.get("__version__", ""), tuple(each for each in installed if each != name))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
