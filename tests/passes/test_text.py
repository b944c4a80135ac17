# pyright: basic
"""Collects `*.irc`: each graph in them is run through the pipeline of its RUN line and checked by FileCheck.

A file may hold several graphs between `// -----` lines; a graph without a RUN line of its own has that of the file.
Whatever a graph shows, it must also mean the same as before.
"""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

from irc.ir import EvaluationError, ModelError, verify
from irc.ir.clone import clone_graph
from irc.ir.text import parse_graph, print_graph
from irc.passes import Contract, PassManager, registry
from irc.passes.canonicalize import RULES
from irc.passes.rules import catalogue

from .judging import GROWTH, judge
from .meaning import assert_same_meaning, feeds_for

HERE = Path(__file__).parent
_RUN = re.compile(r"^// RUN: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One graph of a file, with its flags (`-p PIPELINE`, `--disable NAME`, `--strictest CONTRACT`)."""

    name: str
    text: str
    flags: str

    def manager(self) -> PassManager:
        """The pass manager that the flags describe."""
        words = shlex.split(self.flags)
        values = dict(zip(words[::2], words[1::2], strict=True))
        assert values.keys() <= {"-p", "--disable", "--strictest"}, f"unknown flag in {self.flags}"
        return PassManager(
            registry().pipeline(values["-p"]),
            disabled=frozenset(values.get("--disable", "").split()),
            strictest=Contract[values.get("--strictest", "reassociating").upper()],
        )

    @property
    def specials(self) -> tuple[bool, ...]:
        """Whether feeds hold special values: not where the rules may lose them."""
        return (False,) if "--strictest lossy" in self.flags else (False, True)


def cases() -> list[Case]:
    found: list[Case] = []
    for path in sorted(HERE.glob("*.irc")):
        parts = re.split(r"^// -----.*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        flags = None
        for number, part in enumerate(parts):
            own = _RUN.search(part)
            flags = own[1] if own else flags
            assert flags is not None, f"{path.name} has no RUN line"
            found.append(Case(f"{path.stem}-{number}" if len(parts) > 1 else path.stem, part, flags))
    return found


CASES = cases()
PYTHON = [rule for rule in catalogue() if rule.tree is None]
"""The rules of the catalogue that are Python; the others' examples and near misses are made from their text."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_text(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    manager = case.manager()
    graph = manager.run(parse_graph(case.text, name=case.name))
    assert not manager.failures, manager.failures
    verify(graph)
    printed = print_graph(graph, locations=False)
    options = Options(match_filename=case.name)
    parser = Parser(options, io.StringIO(case.text), *pattern_for_opts(options))
    code = Matcher(options, FInput(case.name, printed), parser).run()
    shown = capsys.readouterr()
    assert code == 0, f"{shown.out}{shown.err}\n{printed}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_meaning(case: Case) -> None:
    graph = parse_graph(case.text, name=case.name)
    manager = case.manager()
    optimized = manager.run(clone_graph(graph))
    contracts = [contract for one in manager.passes for _, contract, _ in one.rewrites()]
    evaluated = 0
    for seed, size in enumerate((2, 3, 1, 0)):
        for special in case.specials:
            feeds = feeds_for(graph, dict.fromkeys("NMK", size), seed, special=special)
            try:
                assert_same_meaning(graph, optimized, feeds, max(contracts, default=Contract.EXACT))
            except EvaluationError:
                continue  # not every size and index makes sense for every graph
            evaluated += 1
    if "Random" in case.text:
        pytest.skip("the reference has no kernel for random ops of the canonical opset")
    assert evaluated, "the reference evaluates it on no feeds"


@pytest.mark.parametrize("dtype", ["f64", "f16"])
@pytest.mark.parametrize("case", [case for case in CASES if "f32[" in case.text], ids=lambda case: case.name)
def test_meaning_in_other_dtypes(case: Case, dtype: str) -> None:
    """The same graphs with another float type, as far as they are graphs then; what fires keeps the meaning there too."""
    text = re.sub(r"\bf32\[", f"{dtype}[", case.text)
    try:
        graph = parse_graph(text, name=case.name)
    except (ModelError, OverflowError):
        return  # its numbers or its casts are made for f32
    manager = case.manager()
    optimized = manager.run(clone_graph(graph))
    assert not manager.failures, manager.failures
    contract = max((c for one in manager.passes for _, c, _ in one.rewrites()), default=Contract.EXACT)
    for seed, special in enumerate(case.specials):
        feeds = feeds_for(graph, dict.fromkeys("NMK", 2), seed, special=special)
        try:
            complaint = judge(graph, optimized, feeds, contract, roundings=GROWTH)
        except EvaluationError:
            continue
        assert not complaint, f"{complaint}\n{print_graph(graph)}\n{print_graph(optimized)}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_run_fires_nothing(case: Case) -> None:
    if "fuse" in case.flags:
        pytest.skip("unfuse gives fuse new work")
    graph = case.manager().run(parse_graph(case.text, name=case.name))
    again = case.manager()
    again.run(graph)
    assert not again.totals


def test_every_rule_is_shown_to_match_and_not_to_match() -> None:
    matched: dict[str, int] = {}
    missed: dict[str, int] = {}
    for case in CASES:
        manager = case.manager()
        manager.remark = True
        manager.run(parse_graph(case.text, name=case.name))
        for name in manager.totals:
            matched[name] = matched.get(name, 0) + 1
        for name in {miss.rewrite for miss in manager.misses}:
            missed[name] = missed.get(name, 0) + 1
    assert not [rule.name for rule in (*RULES, *PYTHON) if not matched.get(rule.name)], "no graph shows them match"
    trivial = {"identity", "cast-like-known"}  # they apply wherever types are known
    few = [rule.name for rule in RULES if missed.get(rule.name, 0) < 2 and rule.name not in trivial]
    assert not few, "fewer than two near misses"
    assert not [rule.name for rule in PYTHON if missed.get(rule.name, 0) < 3], "fewer than three near misses"
