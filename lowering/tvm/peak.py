"""The kernel that only multiplies and adds, in registers: what a machine computes at most, in the library of each program.

So the limit that `irc bench --roofline` divides by is measured with the threads, at the clock and in the seconds of what it is
compared with (Williams, Waterman and Patterson, "Roofline", 2009).
"""

from __future__ import annotations

from irc.ir import DType

from .kernel import Kernel, Writer
from .tiling import Machine

TURNS = 16384
"""Multiply-adds of a register in a task, some 0.1 ms."""
TASKS = 16
"""Enough that the threads end together."""
SPARE = 4
"""Registers that are left for the factor and the compiler."""


def peak(machine: Machine) -> Kernel:
    """Sums of x * sum + x in as many registers as there are, more than hide the latency; x is a vector of its memory.

    Its pointer is to f32[TASKS, lanes]: each task reads its vector, and writes the total of its sums there.
    """
    lanes, sums = machine.lanes, machine.registers - SPARE
    writer = Writer()
    memory = writer.buffer(DType.F32, TASKS * lanes)
    registers = writer.local("float32", sums, lanes)
    factor = writer.local("float32", lanes)
    everywhere, own = f"T.ramp(0, 1, {lanes})", f"T.ramp(task * {lanes}, 1, {lanes})"
    writer.line(f"{factor}[{everywhere}] = {memory}[{own}]")
    with writer.loop(sums, "unroll") as i:
        writer.line(f"{registers}[{i}, {everywhere}] = T.broadcast(T.float32(0), {lanes})")
    with writer.loop(TURNS), writer.loop(sums, "unroll") as i:
        place = f"{registers}[{i}, {everywhere}]"
        writer.line(f"{place} = {place} * {factor}[{everywhere}] + {factor}[{everywhere}]")
    for number in range(1, sums):
        writer.line(f"{registers}[0, {everywhere}] = {registers}[0, {everywhere}] + {registers}[{number}, {everywhere}]")
    writer.line(f"{memory}[{own}] = {registers}[0, {everywhere}]")
    return writer.kernel(TASKS, 2 * TASKS * TURNS * sums * lanes)


def peak_bytes(machine: Machine) -> int:
    """The bytes of its memory."""
    return 4 * TASKS * machine.lanes


__all__ = ["peak", "peak_bytes"]
