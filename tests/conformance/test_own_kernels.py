"""The gate for kernels of our own: with the engine `tvm`, and what it leaves to ONNX Runtime, programs answer as before.

Building the kernels of all cases takes minutes, so the gate has the first case of every set of ops and input types, and the
smaller models. With IRC_CONFORMANCE=whole in the environment it is every case, each also with its ops as they are, and all
models.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

import irc
from irc.runtime import PLAN

from .batches import Compile, built_together
from .corpora import Feeds, distance, node_cases, real_models, session, traps
from .test_gate import expected_feeds, meets, reference, wrong_answers

HAS_COMPILER = sys.platform == "linux" and shutil.which("cc") is not None
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tvm") is None or not HAS_COMPILER, reason="needs TVM, and a C compiler on Linux"
)

WHOLE = os.environ.get("IRC_CONFORMANCE") == "whole"
LARGEST = 2 << 20
"""Bytes of the files of models that are in the gate."""

PASSES = {"O2": None, "as they are": "O0"}
"""Ops as the level leaves them, fused and rewritten, and each as it stands in its model."""


def compiled(model: bytes | Path, passes: str | None = None, feeds: Feeds | None = None) -> irc.Program:
    """A model by the driver, for the shapes of `feeds`; nothing is checked, so that what is wrong is seen."""
    shapes = {name: array.shape for name, array in (feeds or {}).items()}
    return irc.compile(model, engine="tvm", passes=passes, shapes=shapes, verify="nothing")


def answers(models: Mapping[str, tuple[Compile, Feeds]]) -> Iterator[tuple[str, str, list[Any] | str]]:
    """The names of models, the engines that each program has, and what it returns, or why it returns nothing."""
    with built_together([compile for compile, _ in models.values()]):
        for name, (compile, feeds) in models.items():
            try:
                program = compile()
                outputs = list(program.run(feeds).values())
            except (irc.IrcError, irc.RunError) as error:
                yield name, "", str(error)
                continue
            yield name, program.manifest.engine, outputs
            program.close()


@cache
def passing_cases() -> Mapping[str, Any]:
    """The node cases that ONNX Runtime passes, by name."""
    found: dict[str, Any] = {}
    for case in node_cases():
        feeds, wanted = expected_feeds(case)
        before = reference(case.model.SerializeToString(), feeds)
        if not isinstance(before, str) and meets(case, wanted, before):
            found[case.name] = case
    return found


def one_of_each(cases: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first of the cases with the same ops on the same types of inputs."""
    first: dict[Any, str] = {}
    for name, case in sorted(cases.items()):
        graph = case.model.graph
        types = tuple(entry.type.tensor_type.elem_type for entry in graph.input)
        first.setdefault((frozenset(node.op_type for node in graph.node), types), name)
    return {name: cases[name] for name in first.values()}


@pytest.mark.parametrize("passes", PASSES.values(), ids=PASSES)
def test_backend_node_suite(passes: str | None) -> None:
    """Every node case that ONNX Runtime passes on the original passes; those that the engine takes have its kernels."""
    if passes is not None and not WHOLE:
        pytest.skip("needs IRC_CONFORMANCE=whole")
    cases = passing_cases() if WHOLE else one_of_each(passing_cases())
    models = {
        name: (partial(compiled, case.model.SerializeToString(), passes), expected_feeds(case)[0])
        for name, case in cases.items()
    }
    failed: list[str] = []
    engines: list[str] = []
    for name, engine, after in answers(models):
        _, wanted = expected_feeds(cases[name])
        engines.append(engine)
        if isinstance(after, str) or not meets(cases[name], wanted, after):
            failed.append(f"{name}: {after if isinstance(after, str) else f'wrong answer by {engine}'}")
    assert not failed, f"{len(failed)} of {len(cases)}:\n" + "\n".join(failed[:20])
    assert engines.count("tvm") >= 0.4 * len(cases)
    assert engines.count("tvm") + engines.count(PLAN) >= 0.5 * len(cases)


def test_traps() -> None:
    """A trap gives the answer that it gives without optimizations."""
    before: dict[str, list[Any]] = {}
    models: dict[str, tuple[Compile, Feeds]] = {}
    for name, model, feeds in traps():
        known = reference(model, feeds)
        if not isinstance(known, str) and name != "dropout_training_const":  # fails by itself; draws random numbers
            before[name], models[name] = known, (partial(compiled, model), feeds)
    wrong: list[str] = []
    engines: list[str] = []
    for name, engine, after in answers(models):
        engines.append(engine)
        if isinstance(after, str) or not distance(before[name], after) <= 1e-6:
            wrong.append(f"{name}: {after if isinstance(after, str) else f'{distance(before[name], after):.1e} away'}")
    assert not wrong, "\n".join(wrong)
    assert engines.count("tvm") >= 100


OPEN = ("silero_vad",)
"""Models whose dims are left open: with those of these feeds, a branch that is not taken has shapes that cannot be."""


def test_real_models() -> None:
    """Real models agree with the reference as at any level; some of half of them runs on our kernels, and all of a third."""
    paths = {name: path for name, path, _ in real_models() if WHOLE or path.stat().st_size <= LARGEST}
    feeds = {name: each for name, _, each in real_models()}
    models = {
        name: (partial(compiled, path, feeds=None if name in OPEN else feeds[name]), feeds[name])
        for name, path in paths.items()
    }
    wrong: list[str] = []
    engines: list[str] = []
    for name, engine, after in answers(models):
        engines.append(engine)
        if isinstance(after, str):
            wrong.append(f"{name}: {after}")
            continue
        before = session(str(paths[name])).run(None, feeds[name])
        wrong += wrong_answers(name, paths[name], feeds[name], list(before), after)
    assert not wrong, "\n".join(wrong)
    assert engines.count("tvm") >= len(engines) // 3
    assert engines.count("tvm") + engines.count(PLAN) >= len(engines) // 2
