"""Ops that only move, put in or take away dims between two others, so that a rule may look through them.

Law: they hold the same elements; each dim behind them is a dim in front of them, or one of size 1 that was put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irc.ir import Op, Value

from ..rewriter import Rewriter

MOVES = ("Transpose", "Squeeze", "Unsqueeze")
_MOST = 4


@dataclass(frozen=True)
class Moved:
    """A value and the moves behind it; `axes` gives for each dim behind them the one in front, or None."""

    source: Value
    moves: tuple[Op, ...]
    axes: tuple[int | None, ...]

    @property
    def maker(self) -> Op:
        """The op that makes the value; only for what `look_through` found."""
        assert self.source.op is not None
        return self.source.op

    def again(self, value: Value, rewrite: Rewriter) -> Value:
        """The same moves of another value of the same rank."""
        for move in self.moves:
            value = rewrite.op(move.name, [value, *move.operands[1:]], dict(move.attributes))
        return value


def moves_behind(value: Value) -> Moved | None:
    """What a value was before it was moved, by moves which alone use each other; None where too little is known."""
    moves: list[Op] = []
    while value.op is not None and value.op.is_a(*MOVES) and len(moves) < _MOST:
        moves.append(value.op)
        value = value.op.needed(0)
        if not value.has_one_use:
            break
    shape = value.shape
    if not moves:
        return Moved(value, (), () if shape is None else tuple(range(len(shape))))
    axes: list[int | None] | None = None if shape is None else list(range(len(shape)))
    for move in reversed(moves):
        axes = None if axes is None else _behind(move, axes)
    return None if axes is None else Moved(value, tuple(reversed(moves)), tuple(axes))


def look_through(value: Value, names: Sequence[str]) -> Moved | None:
    """The moves of what an op of one of these names makes, which alone they use if they are any; None for other values."""
    moved = moves_behind(value)
    if moved is None or moved.source.op is None or not moved.source.op.is_a(*names):
        return None
    return moved if not moved.moves or moved.source.has_one_use else None


def _behind(move: Op, axes: list[int | None]) -> list[int | None] | None:
    """The dims behind one move, or None where its axes are not known."""
    if move.is_a("Transpose"):
        return [axes[p] for p in move.integers("perm") or range(len(axes) - 1, -1, -1)]
    written = move.constant_operand(1)
    if written is None:
        return None
    rank = len(axes) + (written.size if move.is_a("Unsqueeze") else 0)
    chosen = {int(a) % rank for a in written.to_list()}
    if move.is_a("Squeeze"):
        return [axis for index, axis in enumerate(axes) if index not in chosen]
    rest = iter(axes)
    return [None if index in chosen else next(rest) for index in range(rank)]
