"""`irc doctor`: what it says of an installation that is whole, and of ones that are not."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # noqa: F401  so that this process has it when a broken one stands before it
import pytest

from irc import runtime
from irc.lowering import FAMILIES, find_target
from irc.lowering import onnxruntime as engine_room
from irc.lowering.onnxruntime import Package
from irc.runtime import Driver, EngineFailure, Gpu
from irc.tools.cli import doctor

from .models import Shell

HOPPER = Driver("13.0", (Gpu("NVIDIA H100", (9, 0), 132, 80 << 30, 50 << 20),))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with nothing in it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("IRC_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines and targets that were tried, all of which work, in no time."""
    seen: list[str] = []

    def run_child(module: str, *arguments: str, timeout: float) -> bytes:
        seen.append(" on ".join(arguments))
        return b'{"failure": null}\n'

    monkeypatch.setattr(runtime, "run_child", run_child)
    return seen


def findings(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What `irc doctor --json` found, by section and name; of several the last."""
    return {(each["section"], each["name"]): each for each in json.loads(text)["findings"]}


def test_an_installation_that_is_whole(shell: Shell) -> None:
    out = shell.good("doctor")
    assert re.search(r"^  ok +onnxruntime +\S+ +ran a one-op model on cpu$", out, re.MULTILINE)
    assert re.search(r"^  ok +folder +\S+ can be written; ", out, re.MULTILINE)
    assert out.endswith("\nall that is needed works\n")
    assert re.findall(r"^\w+$", out, re.MULTILINE) == ["machine", "packages", "engines", "gpu", "cache"]


def test_as_json(shell: Shell, tried: list[str]) -> None:
    found = json.loads(shell.good("doctor", "--json"))
    assert list(found) == ["good", "python", "findings"]
    assert found["good"] is True
    assert {tuple(each) for each in found["findings"]} == {("section", "name", "state", "detail", "remedy", "version")}
    assert not any("  " in text for each in found["findings"] for text in each.values())  # columns are for people
    assert findings(json.dumps(found))["packages", "numpy"]["version"] == np.__version__
    assert {each["state"] for each in found["findings"]} <= {"ok", "-", "odd"}
    here = [name for name in FAMILIES if find_target(name).is_here]
    assert tried[0] == f"onnxruntime on {here[0]}"


def test_what_is_missing_and_not_needed_comes_with_the_command(shell: Shell, tried: list[str]) -> None:
    for each in findings(shell.good("doctor", "--json")).values():
        if "not installed" in each["detail"]:
            assert (each["state"], each["remedy"].partition("[")[0]) == ("-", "pip install 'irc-compiler")


# Engines


@pytest.mark.skipif(os.name != "posix", reason="processes are ended by signals")
def test_an_engine_that_crashes_is_a_finding(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    (tmp_path / "onnxruntime" / "__init__.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    (tmp_path / "onnxruntime" / "capi" / "build_and_package_info.py").write_text(
        "package_name = 'onnxruntime'\n__version__ = '9'\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    said = shell.run("doctor")
    assert said.code == 1
    assert re.search(r"BROKEN +onnxruntime +\S+ +fails on cpu: its process was killed by SIGSEGV", said.out)
    assert re.search(r"do: pip install --force-reinstall --no-deps onnxruntime\S*==", said.out)
    assert "this installation is not whole: onnxruntime (" in said.err
    assert "all that is needed works" not in said.out


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b'{"failure": "Relu of -1 and 1 is nan and 1"}', "Relu of -1 and 1 is nan and 1"),
        (b"", "its answer: is not the JSON it should be"),
        (EngineFailure("it did not end within 120 s"), "it did not end within 120 s"),
    ],
    ids=["a wrong answer", "no answer", "no end"],
)
def test_an_engine_that_fails(shell: Shell, monkeypatch: pytest.MonkeyPatch, said: bytes | Exception, detail: str) -> None:
    def run_child(*_: str, timeout: float) -> bytes:
        if isinstance(said, bytes):
            return said
        raise said

    monkeypatch.setattr(runtime, "run_child", run_child)
    ended = shell.run("doctor", "--json")
    assert ended.code == 1
    engine = findings(ended.out)["engines", "onnxruntime"]
    assert engine["state"] == "BROKEN"
    assert detail in engine["detail"]


def test_a_package_that_is_needed(shell: Shell, tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "lark" else installed(name))
    ended = shell.run("doctor", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["good"] is False
    assert findings(ended.out)["packages", "lark"]["remedy"] == "pip install irc-compiler"


# GPUs


def gpu_findings(shell: Shell, monkeypatch: pytest.MonkeyPatch, driver: Driver, package: Package, libraries: str) -> Any:
    """What is found on a machine with such a driver, ONNX Runtime package, and libraries of CUDA in one place."""
    monkeypatch.setattr(runtime, "cuda_driver", lambda: driver)
    monkeypatch.setattr(runtime, "cuda_libraries", lambda: {"libcudart.so.13": libraries, "libcudnn.so.9": libraries})
    monkeypatch.setattr(engine_room, "package", lambda: package)
    monkeypatch.setattr(engine_room, "install_gpu", lambda: "pip install GPU")
    ended = shell.run("doctor", "--json")
    found = {name: each for (section, name), each in findings(ended.out).items() if section == "gpu"}
    return ended.code, {name: (each["state"], each["remedy"]) for name, each in found.items()}


CPU_ONLY, GPU_ONLY = Package("onnxruntime", "1.31.1"), Package("onnxruntime-gpu", "1.31.1")
CPU_WON = Package("onnxruntime", "1.31.1", ("onnxruntime-gpu",))
NO_DRIVER = Driver("", (), "there is no NVIDIA driver")


@pytest.mark.parametrize(
    ("driver", "package", "libraries", "code", "expected"),
    [
        (NO_DRIVER, CPU_ONLY, "", 0, {"driver": ("-", ""), "CUDA libraries": ("-", "")}),
        (
            NO_DRIVER,
            CPU_WON,
            "",
            0,
            {"driver": ("odd", ""), "CUDA libraries": ("-", ""), "onnxruntime/": ("odd", "pip install GPU")},
        ),
        (
            HOPPER,
            GPU_ONLY,
            "/lib",
            0,
            {"driver": ("ok", ""), "device": ("ok", ""), "CUDA libraries": ("ok", ""), "onnxruntime/": ("ok", "")},
        ),
        (
            HOPPER,
            GPU_ONLY,
            "",
            1,
            {
                "driver": ("ok", ""),
                "device": ("ok", ""),
                "CUDA libraries": ("BROKEN", "pip install 'irc-compiler[cuda]'"),
                "onnxruntime/": ("ok", ""),
            },
        ),
        (
            HOPPER,
            CPU_WON,
            "/lib",
            1,
            {
                "driver": ("ok", ""),
                "device": ("ok", ""),
                "CUDA libraries": ("ok", ""),
                "onnxruntime/": ("BROKEN", "pip install GPU"),
            },
        ),
        (
            HOPPER,
            CPU_ONLY,
            "/lib",
            0,
            {
                "driver": ("ok", ""),
                "device": ("ok", ""),
                "CUDA libraries": ("ok", ""),
                "onnxruntime/": ("-", "pip install GPU"),
            },
        ),
    ],
    ids=["none", "none but its package", "all", "no libraries", "the wrong package on top", "no package"],
)
def test_gpus(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tried: list[str],
    driver: Driver,
    package: Package,
    libraries: str,
    code: int,
    expected: dict[str, tuple[str, str]],
) -> None:
    assert gpu_findings(shell, monkeypatch, driver, package, libraries) == (code, expected)


# The cache


def test_a_cache_that_cannot_be_used_is_no_failure(shell: Shell, tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.folder / "file").write_text("")
    monkeypatch.setenv("IRC_CACHE_DIR", str(shell.folder / "file"))
    found = findings(shell.good("doctor", "--json"))["cache", "folder"]
    assert found["state"] == "odd"
    assert "is not used: file exists" in found["detail"]


def test_a_damaged_entry_is_named(shell: Shell, tried: list[str], cache: Path) -> None:
    shell.good("targets", "--measure")
    (entry,) = cache.glob("limits-*")
    entry.write_bytes(entry.read_bytes()[:-1])
    found = findings(shell.good("doctor", "--json"))["cache", "limits"]
    assert (found["state"], found["remedy"]) == ("odd", "irc targets --measure")
    assert "is damaged and was ignored" in found["detail"]
