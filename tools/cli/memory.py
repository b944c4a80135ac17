"""`irc inspect --memory` and `--plan`: what lies in the arena of a program of kernels while it runs, step by step.

Law: what is said was read from the plans in the artifact; what an engine keeps in memory of its own is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from .output import Json, print_table, size

if TYPE_CHECKING:
    from irc.ir import Op
    from irc.runtime import Artifact, NativeBuffer, NativePlan, NativeStep

BAR = 40
"""How many characters a bar of the timeline has at the peak."""

MOST_NAMED = 1
"""Ops of a step that a row names."""

LONGEST_WAY = 60
"""Letters of how a kernel was made that a line has."""

STEP_COLUMNS = ("step", "what it computes", "live bytes", "live")
PEAK_COLUMNS = ("at the peak", "place", "bytes", "steps")


@dataclass(frozen=True)
class Memory:
    """The arena of one piece of a program: what is live at each step, the first step with the most, what is there."""

    piece: str
    plan: NativePlan
    live: Sequence[int]
    peak_step: int
    at_peak: Sequence[NativeBuffer]

    @property
    def peak(self) -> int:
        """The bytes of the largest live set."""
        return max(self.live, default=0)

    def to_json(self) -> Json:
        """As JSON."""
        plan = self.plan
        return {
            "piece": self.piece,
            "arena": plan.arena,
            "constants": plan.constants,
            "blocks": [{"entries": block.entries, "steps": [block.first, block.end]} for block in plan.blocks],
            "largest_live_set": self.peak,
            "peak_step": self.peak_step,
            "at_peak": [_buffer_to_json(each) for each in self.at_peak],
            "steps": [
                {"kernel": step.kernel, "ops": list[Json](step.ops), "tasks": step.tasks, "way": step.way, "live": live}
                for step, live in zip(plan.steps, self.live, strict=True)
            ],
            "buffers": [_buffer_to_json(each) for each in plan.buffers],
        }


def native_plans(artifact: Artifact) -> list[tuple[str, NativePlan]]:
    """The plans of the pieces of an artifact that are kernels of our own, by the piece's name; empty for the only one."""
    from irc.runtime import NATIVE_PLAN_FILE, PLAN, PLAN_FILE, EngineFiles, NativePlan, Plan

    files = EngineFiles.from_artifact(artifact)
    if artifact.manifest.engine != PLAN:
        native = artifact.manifest.engine == "tvm"
        return [("", NativePlan.from_bytes(files.read(NATIVE_PLAN_FILE)))] if native else []
    steps = {step.part: step for variant in Plan.from_bytes(files.read(PLAN_FILE)).variants for step in variant.steps}
    return [
        (name, NativePlan.from_bytes(files.parts[name].read(NATIVE_PLAN_FILE)))
        for name, step in steps.items()
        if step.engine == "tvm" and name in files.parts
    ]


def read_memory(artifact: Artifact) -> list[Memory]:
    """The memory of each piece that is kernels of our own."""
    return [_memory(name, plan) for name, plan in native_plans(artifact)]


def _memory(piece: str, plan: NativePlan) -> Memory:
    changes = [0] * (len(plan.steps) + 1)
    for each in plan.buffers:
        changes[each.first] += each.size
        changes[each.last + 1] -= each.size
    live = list(accumulate(changes))[:-1]
    step = live.index(max(live)) if live else 0
    there = sorted(
        (each for each in plan.buffers if each.first <= step <= each.last), key=lambda each: (-each.size, each.offset)
    )
    return Memory(piece, plan, live, step, there)


def place(buffer: NativeBuffer) -> str:
    """Where a buffer lies."""
    return f"arena+{buffer.offset}"


def peak_rows(memory: Memory) -> list[tuple[str, str, str, str]]:
    """A row for each buffer that is live at the peak, the largest first."""
    return [(f"%{each.name}", place(each), f"{each.size:,}", f"{each.first}..{each.last}") for each in memory.at_peak]


def step_rows(memory: Memory) -> list[tuple[str, str, str, str]]:
    """A row for each step, with a bar that is full at the peak."""
    most = max(memory.peak, 1)
    return [
        (str(number), what(step), f"{live:,}", "█" * max(round(BAR * live / most), live > 0))
        for number, (step, live) in enumerate(zip(memory.plan.steps, memory.live, strict=True))
    ]


def what(step: NativeStep) -> str:
    """What a step computes, by the names of the nodes."""
    if not step.ops:
        return "(moves data)"
    more = f" and {len(step.ops) - MOST_NAMED} more" if len(step.ops) > MOST_NAMED else ""
    return ", ".join(step.ops[:MOST_NAMED]) + more


def headline(memory: Memory) -> str:
    """The arena in a sentence."""
    plan, peak = memory.plan, memory.peak
    name = f"{memory.piece}: " if memory.piece else ""
    constants = f"constants {size(plan.constants)}{_blocks(plan)}"
    if not peak:
        return f"{name}nothing lies in the arena; {constants}"
    over = f"{100 * (plan.arena / peak - 1):.1f} % over the largest live set"
    where = f"{size(peak)} at step {memory.peak_step} of {len(plan.steps)}"
    return f"{name}arena {size(plan.arena)}, {over}, {where}; {constants}"


def _blocks(plan: NativePlan) -> str:
    """How many entries are computed at a time, where the plan is for any number of them."""
    sizes = [str(block.entries) for block in plan.blocks if block.entries]
    return f"; any number of entries, {' or '.join(sizes)} at a time" if sizes else ""


def print_memory(memories: Sequence[Memory]) -> None:
    """Print the sentence, what is there at the peak, and the timeline of each piece."""
    for index, memory in enumerate(memories):
        print("\n" * (index > 0) + headline(memory) + "\n")
        if memory.at_peak:
            print_table(None, PEAK_COLUMNS, peak_rows(memory))
            print()
        print_table(None, STEP_COLUMNS, step_rows(memory))


def plan_text(memory: Memory) -> Iterator[str]:
    """The plan, line by line: the step, what it is called with, and behind the step that first needs a buffer its place."""
    plan = memory.plan
    begins: dict[int, list[NativeBuffer]] = {}
    for each in plan.buffers:
        begins.setdefault(each.first, []).append(each)
    yield f"plan{f' {memory.piece}' if memory.piece else ''}: {len(plan.steps)} steps, arena {plan.arena} bytes"
    blocks = {block.first: block for block in plan.blocks if block.end > block.first}
    for number, step in enumerate(plan.steps):
        if number in blocks:
            yield _how_often(blocks[number].entries)
        given = ", ".join(_argument(plan, number, each.base, each.offset, each.size) for each in step.arguments)
        yield f"{number}: {step.kernel} x {step.tasks} ({given})  # {what(step)}{_way(step)}"
        for each in begins.get(number, ()):
            yield f"  %{each.name} @ {place(each)} : {each.size} bytes, steps {each.first}..{each.last}"


def _how_often(entries: int) -> str:
    """When the steps of a block are done."""
    if not entries:
        return "once:"
    return f"for every {entries} entries:" if entries > 1 else "for each entry that is left:"


def _way(step: NativeStep) -> str:
    """How a kernel that could be made in several ways was made, cut off where that is long."""
    text = step.way if len(step.way) <= LONGEST_WAY else f"{step.way[: LONGEST_WAY - 1]}…"
    return text and f", {text}"


def _argument(plan: NativePlan, number: int, base: int, offset: int, count: int) -> str:
    """An argument by its name, or by the place it is in."""
    from irc.runtime import ARENA, CONSTANTS, FIRST_VALUE, STATUS

    if base == ARENA:
        alive = (b for b in plan.buffers if b.first <= number <= b.last and b.offset <= offset < max(b.offset + b.size, 1))
        return next((f"%{each.name}" for each in alive), f"arena+{offset}")
    if base == CONSTANTS:
        return f"constants+{offset}:{count}"
    if base == STATUS:
        return "status"
    values = (*plan.inputs, *plan.outputs)
    return f"%{values[base - FIRST_VALUE].name}"


def place_notes(home: Mapping[Op, str], memories: Sequence[Memory]) -> dict[Op, str]:
    """Where the results of ops are, by ops; `home` is the piece of each. Of ops that other engines run nothing is known."""
    plans = {each.piece: each.plan for each in memories}
    values = {piece: {each.name: _base(plan, each.base, each.offset) for each in plan.values} for piece, plan in plans.items()}
    notes: dict[Op, str] = {}
    for op, piece in home.items():
        known = values.get(piece)
        if known is None or op.graph is None or op.graph.owner is not None:  # bodies are no business of kernels
            continue
        found = [known.get(value.name) for value in op.results]
        if any(found) or not op.is_constant:
            notes[op] = "@ " + ", ".join(each or IN_REGISTERS for each in found)
    return notes


IN_REGISTERS = "registers"
"""Where a value is that one kernel both makes and uses."""


def _base(plan: NativePlan, base: int, offset: int) -> str:
    """A place in a base."""
    from irc.runtime import ARENA, CONSTANTS, FIRST_VALUE

    if base in (ARENA, CONSTANTS):
        return f"{'arena' if base == ARENA else 'constants'}+{offset}"
    name = json.dumps((*plan.inputs, *plan.outputs)[base - FIRST_VALUE].name)
    return f"{'input' if base - FIRST_VALUE < len(plan.inputs) else 'output'} {name}+{offset}"


def _buffer_to_json(buffer: NativeBuffer) -> Json:
    steps: list[Json] = [buffer.first, buffer.last]
    return {"name": buffer.name, "offset": buffer.offset, "bytes": buffer.size, "steps": steps}
