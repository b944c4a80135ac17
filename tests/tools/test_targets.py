"""`irc targets`: what there is to compile for."""

from __future__ import annotations

import json
import re

import pytest

from irc import runtime
from irc.lowering import FAMILIES, TARGETS, find_target
from irc.runtime import Limits, Measured

from .models import Shell


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder with nothing in it."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def test_the_usual_ones_and_names_for_more(shell: Shell) -> None:
    out = shell.good("targets")
    assert re.search(r"^cpu +yes +onnxruntime", out, re.MULTILINE)
    assert all(re.search(rf"^{family} ", out, re.MULTILINE) for family in FAMILIES)
    assert re.search(r"^  at most +not measured yet: irc targets --measure$", out, re.MULTILINE)
    assert all(name.partition(":")[2] in out for name in TARGETS)
    assert max(map(len, out.splitlines())) <= 160


def test_one_in_full(shell: Shell) -> None:
    (shell.folder / "edge.toml").write_text('like = "cpu:znver4"\n[limits]\ngflops = 500\n')
    first, second = shell.good("targets", "cuda:sm_90", "edge.toml").split("\n\n")
    assert first.startswith("cuda:sm_90\n")
    assert re.search(r"compute capability +9\.0$", first, re.MULTILINE)
    assert second.startswith("edge.toml\n")
    assert re.search(r"caches +L1d 32\.0 KiB, L2 1\.0 MiB$", second, re.MULTILINE)
    assert re.search(r"at most +500\.0 GFLOP/s in f32$", second, re.MULTILINE)


def test_all_as_json(shell: Shell) -> None:
    found = json.loads(shell.good("targets", "--json"))
    assert [each["name"] for each in found] == list(TARGETS)
    assert len({tuple(each) for each in found}) == 1
    cpu = found[0]
    assert (cpu["kind"], cpu["here"], cpu["not_here"], cpu["limits"]) == ("cpu", True, "", None)
    assert cpu["engines"][0]["name"] == "onnxruntime"
    assert cpu["engines"][0]["runs"] is True
    gpu = next(each for each in found if each["name"] == "cuda:sm_90")
    assert (gpu["compute_capability"], gpu["multiprocessors"]) == ("9.0", None)
    assert [each["name"] for each in gpu["engines"]] == ["onnxruntime"]


def test_some_as_json(shell: Shell) -> None:
    found = json.loads(shell.good("targets", "arm64", "--json"))
    assert [(each["name"], each["architecture"]) for each in found] == [("arm64", "arm64")]


@pytest.mark.skipif(find_target("arm64").is_here, reason="this machine runs what is made for Arm")
def test_what_is_compiled_for_another_machine_says_why_nothing_was_measured(shell: Shell) -> None:
    said = shell.run("compile", "good.onnx", "-O3", "--target", "arm64")
    assert said.code == 0, said.err
    assert re.match(r"irc: nothing was measured: this machine is \S+, not arm64\n", said.err)
    assert said.err.endswith("irc: its answers were checked on the CPU here\n")


def test_measuring(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (measured,) = json.loads(shell.good("targets", "cpu", "--measure", "--json"))
    assert measured["limits"]["gflops"] > 0
    assert measured["limits"]["bandwidth"] > 0
    assert json.loads(shell.good("targets", "cpu", "--json")) == [measured]
    monkeypatch.setattr(runtime, "measure_limits", lambda: Measured(Limits(1.0, 1.0), "nothing is kept"))
    assert "irc: nothing is kept" in shell.run("targets", "--measure").err
