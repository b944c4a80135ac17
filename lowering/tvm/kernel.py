"""What a kernel is: a TVMScript function of a task number and of pointers, written line by line.

Law: equal kernels have equal text and therefore one name, so each is built once. A kernel has no state, allocates nothing but a
few registers and what fits the stack, and its tasks may run in any order and at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from irc.ir import DType

_APART = ', "tirx.noalias": True'
"""What tells TVM that no two buffers overlap."""
_LYING_AS = {DType.BOOL: "int8", DType.BF16: "uint16"}
"""Dtypes that lie in memory as another one."""
_LARGEST_SINGLE = float(np.finfo(np.float32).max)


def tir_name(dtype: DType) -> str:
    """What TVM calls a dtype; a bool lies in memory as an int8 that is 0 or 1, a bf16 as the bits it is."""
    return _LYING_AS.get(dtype) or dtype.numpy.name


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: `source` with `{name}` where its own name stands, the tasks of one call, and how many pointers it takes.

    `flops` are those of one call, counted as the ops behind it count them. `way` is of one that could be made in several:
    the key of what it computes, a space, and how it is made.
    """

    source: str
    tasks: int
    arity: int
    flops: int = 0
    way: str = ""

    @property
    def name(self) -> str:
        """The symbol of the kernel, which follows from its text."""
        return f"irc_{hashlib.sha256(self.source.encode()).hexdigest()[:20]}"

    def with_aliases(self) -> Kernel:
        """The same for buffers that may overlap, element for element."""
        return replace(self, source=self.source.replace(_APART, "", 1))

    @property
    def text(self) -> str:
        """The TVMScript function under its name."""
        return self.source.replace("{name}", self.name)


Instruction = Callable[[int], tuple[str, str]]
"""The name and LLVM's text of a function of vectors of f32 of so many lanes, of numbers where it is one."""


@dataclass
class _Lanes:
    """The vectorized loop that is being written: its variable and extent, the line that opens it and how deep that is."""

    variable: str
    extent: int | str
    line: int
    depth: int


@dataclass
class Writer:
    """A kernel in the making: flat buffers behind pointers, then statements, indented as blocks open.

    Loops are written as Python's are in TVMScript; a scalar that is bound in a vectorized loop is a vector there.
    """

    _parameters: list[str] = field(default_factory=list[str])
    _buffers: list[str] = field(default_factory=list[str])
    _lines: list[str] = field(default_factory=list[str])
    _depth: int = 1
    _count: int = 0
    _lanes: _Lanes | None = None
    _support: dict[str, None] = field(default_factory=dict[str, None])

    def buffer(self, dtype: DType, size: int) -> str:
        """The name of one more buffer behind a pointer, of `size` elements; pointers are passed in the order of these calls."""
        number = len(self._parameters)
        kind = tir_name(dtype)
        self._parameters.append(f'p{number}: T.handle("{kind}", "global")')
        self._buffers.append(f'    b{number} = T.decl_buffer(({max(size, 1)},), "{kind}", data=p{number})')
        return f"b{number}"

    def local(self, kind: str, *shape: int) -> str:
        """The name of an array of registers, or on the stack, of TVM's dtype `kind`; its extents are constants."""
        name = self.fresh("r")
        extents = ", ".join(map(str, shape))
        self.line(f'{name} = T.alloc_buffer(({extents},), "{kind}", scope="local")')
        return name

    def let(self, kind: str, expression: str) -> str:
        """The name of the value of an expression of TVM's dtype `kind`, computed here."""
        name = self.fresh("v")
        self.line(f"{name}: T.let[T.{kind}] = {expression}")
        return name

    def value(self, kind: str, expression: str) -> str:
        """The text of the value of an expression, computed here, which TVM does not look through, for arithmetic.

        `let` is for indices: TVM's analyzer puts what a let stands for in the place of each of its uses, over and over, and
        takes (x + c) - c for x. A register array, of as many elements as a vectorized loop around it has turns, stops that.
        """
        element = self._element(kind)
        self.line(f"{element} = {expression}")
        return element

    def at_once(self, kind: str, instruction: Instruction, *operands: str) -> str:
        """The value, of TVM's dtype `kind`, that an instruction makes of f32 operands, all lanes of a vector at once.

        TVM would call a function turn by turn. In addresses of register arrays is nothing of a turn, so it calls this one once.
        """
        arrays = [self.value("float32", each) for each in operands]
        result = self._element(kind)
        name, text = instruction(1 if self._lanes is None else int(self._lanes.extent))
        self._support[text] = None
        places = ", ".join(f"T.address_of({each.partition('[')[0]}[0])" for each in (*arrays, result))
        self.line(f'T.evaluate(T.call_extern("int32", "{name}", {places}))')
        return result

    def _element(self, kind: str) -> str:
        """An element of a new register array: that of the turn of the vectorized loop, or the only one."""
        name, lanes = self.fresh("r"), self._lanes
        if lanes is None:
            self.line(f'{name} = T.alloc_buffer((1,), "{kind}", scope="local")')
            return f"{name}[0]"
        array = f'{name} = T.alloc_buffer(({lanes.extent},), "{kind}", scope="local")'
        self._lines.insert(lanes.line, "    " * lanes.depth + array)
        lanes.line += 1
        return f"{name}[{lanes.variable}]"

    def line(self, text: str) -> None:
        """One statement."""
        self._lines.append("    " * self._depth + text)

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{prefix}{self._count}"

    @contextlib.contextmanager
    def block(self, head: str) -> Generator[None]:
        """A statement with others below it, such as an `if`."""
        self.line(f"{head}:")
        self._depth += 1
        yield
        self._depth -= 1

    @contextlib.contextmanager
    def loop(self, extent: int | str, kind: str = "serial") -> Generator[str]:
        """The variable of a loop of `extent` turns, `serial`, `unroll` or `vectorized`; of one turn there is no loop."""
        if extent == 1:
            yield "0"
            return
        name = self.fresh("i")
        if kind == "vectorized":
            self._lanes = _Lanes(name, extent, len(self._lines), self._depth)
        with self.block(f"for {name} in T.{kind}({extent})"):
            yield name
        if kind == "vectorized":
            self._lanes = None

    def kernel(self, tasks: int, flops: int = 0) -> Kernel:
        """What has been written; the number of the task is `task`."""
        head = f"def {{name}}(task: T.int32, {', '.join(self._parameters)}):"
        attributes = f'    T.func_attr({{"global_symbol": "{{name}}"{_APART}}})'
        support = [f'    T.attr(0, "pragma_import_llvm", {text!r})' for text in self._support]
        lines = ["@T.prim_func(s_tir=True)", head, attributes, *self._buffers, *support, *self._lines]
        return Kernel("\n".join(lines) + "\n", tasks, len(self._parameters), flops)


def literal(value: float | int | bool, kind: str) -> str:
    """A constant of TVM's dtype `kind`; infinities and NaN too."""
    if kind.startswith(("int", "uint")):
        return f"T.{kind}({int(value)})"
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        return f'T.{kind}("{"nan" if number != number else "inf" if number > 0 else "-inf"}")'
    if kind == "float64" and abs(number) > _LARGEST_SINGLE:  # TVM's parser holds every number to the range of f32
        return f'T.reinterpret("float64", T.int64({int(np.float64(number).view(np.int64))}))'
    return f"T.{kind}({number!r})"


def product(sizes: Sequence[int]) -> int:
    """The product of sizes; 1 of none."""
    result = 1
    for size in sizes:
        result *= size
    return result
