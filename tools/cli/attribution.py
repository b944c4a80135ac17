"""Where time goes: each kernel counts once, to the source line, module and rewrite that its origins tell.

Of a kernel with several origins, an op fused from them, the module is the deepest that holds them all, the line that of the
first one that has a line, and the rewrite the last one that made the op. Origins that tell no module have no say in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irc.runtime import Kernel, Profile

    from .output import Json

NOT_ATTRIBUTED = "(not attributed)"
AS_CAPTURED = "(as captured)"
OUTERMOST = "(outermost module)"
NO_LINE = "(no source line)"
OWN = "(its own ops)"
_NAMELESS = re.compile(r"\w+\((.+)\)")


class By(StrEnum):
    """What time is summed up by."""

    MODULE = "module"
    LINE = "line"
    OP = "op"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whom a kernel's time counts to.

    `module` is a path from the outermost module inwards, None where the kernel stands for nothing known; `line` is `file:line`
    or the name of an ONNX node; `rule` is "" for an op as it was captured.
    """

    module: tuple[str, ...] | None = None
    file: str = ""
    line: str = ""
    rule: str = ""

    def path(self, by: By, op: str) -> tuple[str, ...]:
        """The names under which the time appears, outermost first, never empty."""
        if by is By.OP:
            return (op,)
        if self.module is None:
            return (NOT_ATTRIBUTED,)
        if by is By.RULE:
            return (self.rule or AS_CAPTURED,)
        return self.module or (OUTERMOST,) if by is By.MODULE else (self.file or NO_LINE, self.line)


def attribute(kernel: Kernel) -> Attribution:
    """Whom a kernel counts to."""
    from irc.ir import parse_origin

    if not kernel.sources:
        return Attribution()
    origins = [origin for source in kernel.sources for origin in source.origins]
    parsed = [parse_origin(origin) for origin in origins]
    line = next((each for each in parsed if each is not None and each.file), None)
    modules = [path for origin in origins if (path := module_of(origin)) is not None]
    return Attribution(
        common_path(modules),
        line.file if line is not None else "",
        f"{line.file}:{line.line}" if line is not None else origins[0],
        next((source.rewrites[0] for source in kernel.sources if source.rewrites), ""),
    )


def module_of(origin: str) -> tuple[str, ...] | None:
    """The path of modules that an origin tells: the module of a source line, or the scopes in the name of an ONNX node.

    `/encoder/layer.0/MatMul` is in `encoder`, `layer.0`; a name without scopes tells none. A node without a name stands under
    that of what it makes, `MatMul(/encoder/layer.0/product)`; one that was fused before has all names, `a/Conv;a/Relu`.
    """
    from irc.ir import parse_origin

    source = parse_origin(origin)
    if source is not None:
        return tuple(source.module.split(".")) if source.module else ()
    nameless = _NAMELESS.fullmatch(origin)
    names = (origin if nameless is None else nameless[1]).split(";")
    return common_path([tuple(scope for scope in name.split("/") if scope)[:-1] for name in names]) or None


def common_path(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest path that all `paths` begin with; of none, the empty one."""
    together = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return tuple(names[0] for names in together)


@dataclass(slots=True)
class Branch:
    """A part of a tree of times: what it and all below take in milliseconds a run, and the number of kernels."""

    name: str
    ms: float = 0.0
    kernels: int = 0
    children: dict[str, Branch] = field(default_factory=dict[str, "Branch"])

    def add(self, path: Iterable[str], ms: float) -> None:
        """Count a kernel to this branch and along `path` below it."""
        branch = self
        branch.ms, branch.kernels = branch.ms + ms, branch.kernels + 1
        for name in path:
            branch = branch.children.setdefault(name, Branch(name))
            branch.ms, branch.kernels = branch.ms + ms, branch.kernels + 1

    def ordered(self) -> list[Branch]:
        """What is directly below, the most expensive first, with the branch's own kernels among it where both exist."""
        below = list(self.children.values())
        own = Branch(OWN, self.ms - sum(b.ms for b in below), self.kernels - sum(b.kernels for b in below))
        parts = [*below, own] if below and own.kernels else below
        return sorted(parts, key=lambda branch: (-branch.ms, branch.name))

    def joined(self, join: Callable[[str, str], str]) -> Branch:
        """The branch, and a chain of branches that hold nothing but the next as one, under the names `join` makes of two."""
        branch = self
        while len(branch.children) == 1 and next(iter(branch.children.values())).kernels == branch.kernels:
            (inner,) = branch.children.values()
            branch = Branch(join(branch.name, inner.name), inner.ms, inner.kernels, inner.children)
        return branch

    def to_json(self) -> dict[str, Json]:
        """As JSON, with all that is below."""
        below: list[Json] = [branch.to_json() for branch in self.ordered()]
        return {"name": self.name, "ms": self.ms, "kernels": self.kernels, "children": below}


def tree(profile: Profile, to: Mapping[Kernel, Attribution], by: By) -> Branch:
    """The times of all kernels, summed up."""
    root = Branch("")
    for kernel in profile.kernels:
        root.add(to[kernel].path(by, kernel.op), kernel.ms)
    return root


def rows(
    root: Branch,
    join: Callable[[str, str], str],
    depth: int | None,
    least: float,
    numbers: Callable[[Branch], tuple[str, ...]],
) -> list[tuple[str, ...]]:
    """A tree as the rows of a table, its lines drawn in the first column, `numbers` making the others.

    Not deeper than `depth`; of branches that take less than `least` milliseconds only the sum is shown.
    """
    found: list[tuple[str, ...]] = []

    def fill(branch: Branch, indent: str, level: int) -> None:
        shown = _shown(branch, join, least)
        for index, part in enumerate(shown):
            last = index == len(shown) - 1
            corner, below = ("", "") if level == 1 else ("└─ ", "   ") if last else ("├─ ", "│  ")
            found.append((indent + corner + part.name, *numbers(part)))
            if depth is None or level < depth:
                fill(part, indent + below, level + 1)

    fill(root, "", 1)
    return found


def _shown(branch: Branch, join: Callable[[str, str], str], least: float) -> list[Branch]:
    """What is printed directly below a branch: what takes enough, and the sum of the rest where that is more than one."""
    parts = branch.ordered()
    small = [part for part in parts if part.ms < least and part.name != NOT_ATTRIBUTED]
    if len(small) < 2:
        return [part.joined(join) for part in parts]
    if len(small) == len(parts) and branch.name:
        return []
    rest = Branch(f"… {len(small)} smaller", sum(part.ms for part in small), sum(part.kernels for part in small))
    return [*(part.joined(join) for part in parts if part not in small), rest]
