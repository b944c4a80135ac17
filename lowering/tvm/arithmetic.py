"""How the products of a contraction are summed: in f32, or several at a time in a lane of 32 bits, as processors do it.

Law: sums of bf16 are f32, those of 8 bits i32 and exact. Elements that share a lane lie side by side in A and in B.

Without VPDPBUSD, a lane's four products of bytes are added by twos in 16 bits, VPMADDUBSW, which is exact where both weights
are small together: irc's own quantizer makes them so. Of other weights they are two of VPMADDWD's, of those with even and of
those with odd numbers, widened before by a mask and shifts that all rows and vectors of a tile share.

Source: Intel's manual of instructions, VDPBF16PS, VPDPBUSD and VPMADDWD; LLVM's intrinsics of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType
from irc.passes.precision import EXACT_TOGETHER

from .tiling import Machine

MultiplyAdd = Callable[[str, str, str, int], str]
"""The text of sum + a * b, for texts of a vector of sums and of vectors of lanes, and how many lanes there are."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """An arithmetic: dtypes of A, B and the sums, how many products a lane holds, and what a processor needs for it.

    `lane` is TVM's dtype of a lane in memory. `support` is LLVM's text of a function that the multiply-add calls, by the
    number of lanes; empty where it needs none. `registers`, by the number of lanes, it needs beside sums, B and a broadcast.
    """

    name: str
    a: DType
    b: DType
    sums: DType
    together: int
    features: tuple[str, ...]
    multiply_add: MultiplyAdd
    support: Mapping[int, str]
    registers: Mapping[int, int] = field(default_factory=dict[int, int])

    @property
    def lane(self) -> DType:
        """The dtype of a lane in memory."""
        return DType.F32 if self.together == 1 else DType.I32

    @property
    def zero(self) -> str:
        """A sum of nothing."""
        return "T.float32(0)" if self.sums is DType.F32 else "T.int32(0)"

    def leaves_of(self, machine: Machine) -> Machine:
        """The machine with the registers that are left for a tile."""
        return replace(machine, registers=machine.registers - self.registers.get(machine.lanes, 0))


def _f32(total: str, a: str, b: str, lanes: int) -> str:
    return f"{total} + {a} * {b}"


def _calling(function: str, sums: str) -> MultiplyAdd:
    """The multiply-add that calls a function in LLVM's language, whose name ends with the number of lanes."""
    return lambda total, a, b, lanes: f'T.call_extern("{sums}x{lanes}", "{function}_{lanes}", {total}, {a}, {b})'


def _inlined(name: str, sums: str, operands: str, body: Sequence[str], declared: Sequence[str]) -> str:
    """LLVM's text of a function %c + %a * %b, whose body ends with %r, and of the intrinsics that it calls."""
    lines = (
        f"define linkonce_odr hidden {sums} @{name}({sums} %c, {operands} %a, {operands} %b) alwaysinline {{",
        *(f"  {line}" for line in body),
        f"  ret {sums} %r",
        "}",
        *(f"declare {each}" for each in declared),
    )
    return "\n".join(lines) + "\n"


def _int8(total: str, a: str, b: str, lanes: int) -> str:
    intrinsic = f'T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.{32 * lanes}")'
    bytes_ = 4 * lanes
    operands = f'T.reinterpret({a}, dtype="uint8x{bytes_}"), T.reinterpret({b}, dtype="int8x{bytes_}")'
    return f'T.call_llvm_pure_intrin({intrinsic}, {total}, {operands}, dtype="int32x{lanes}")'


def _dpbf16(lanes: int) -> str:
    """TVM makes f32 of all bf16 before LLVM sees it, so lanes of bits are turned into bf16 in LLVM's own language."""
    sums, bits, pairs = f"<{lanes} x float>", f"<{lanes} x i32>", f"<{2 * lanes} x bfloat>"
    intrinsic = f"@llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
    body = (
        f"%x = bitcast {bits} %a to {pairs}",
        f"%y = bitcast {bits} %b to {pairs}",
        f"%r = call {sums} {intrinsic}({sums} %c, {pairs} %x, {pairs} %y)",
    )
    return _inlined(f"irc_dpbf16_{lanes}", sums, bits, body, [f"{sums} {intrinsic}({sums}, {pairs}, {pairs})"])


def _pairs(lanes: int, intrinsic: str) -> str:
    """c + a * b of lanes of four bytes; a byte of a with an even number is below in its 16 bits, one of b is brought down."""
    sums, words = f"<{lanes} x i32>", f"<{2 * lanes} x i16>"

    def all_of(number: int) -> str:
        return f"<{', '.join([f'i16 {number}'] * (2 * lanes))}>"

    body = (
        f"%x = bitcast {sums} %a to {words}",
        f"%y = bitcast {sums} %b to {words}",
        f"%x0 = and {words} %x, {all_of(255)}",
        f"%x1 = lshr {words} %x, {all_of(8)}",
        f"%up = shl {words} %y, {all_of(8)}",
        f"%y0 = ashr {words} %up, {all_of(8)}",
        f"%y1 = ashr {words} %y, {all_of(8)}",
        f"%p = call {sums} {intrinsic}({words} %x0, {words} %y0)",
        f"%q = call {sums} {intrinsic}({words} %x1, {words} %y1)",
        f"%s = add {sums} %c, %p",
        f"%r = add {sums} %s, %q",
    )
    return _inlined(f"irc_pairs_{lanes}", sums, sums, body, [f"{sums} {intrinsic}({words}, {words})"])


def _in_words(lanes: int, multiply: str, add: str) -> str:
    """c + a * b of lanes of four bytes, whose products are added by twos in 16 bits."""
    sums, words, bytes_ = f"<{lanes} x i32>", f"<{2 * lanes} x i16>", f"<{4 * lanes} x i8>"
    ones = f"<{', '.join(['i16 1'] * (2 * lanes))}>"
    body = (
        f"%x = bitcast {sums} %a to {bytes_}",
        f"%y = bitcast {sums} %b to {bytes_}",
        f"%p = call {words} {multiply}({bytes_} %x, {bytes_} %y)",
        f"%q = call {sums} {add}({words} %p, {words} {ones})",
        f"%r = add {sums} %c, %q",
    )
    declared = (f"{words} {multiply}({bytes_}, {bytes_})", f"{sums} {add}({words}, {words})")
    return _inlined(f"irc_in_words_{lanes}", sums, sums, body, declared)


F32 = Arithmetic("f32", DType.F32, DType.F32, DType.F32, 1, (), _f32, {})
BF16 = Arithmetic(
    "bf16",
    DType.BF16,
    DType.BF16,
    DType.F32,
    2,
    ("avx512bf16",),
    _calling("irc_dpbf16", "float32"),
    {8: _dpbf16(8), 16: _dpbf16(16)},
)
INT8 = Arithmetic("int8", DType.U8, DType.I8, DType.I32, 4, ("avx512vnni",), _int8, {})

INT8_ON_AVX = replace(INT8, features=("avxvnni",))
_VPMADDWD = {8: "@llvm.x86.avx2.pmadd.wd", 16: "@llvm.x86.avx512.pmaddw.d.512"}
_VPMADDUBSW = {8: "@llvm.x86.avx2.pmadd.ub.sw", 16: "@llvm.x86.avx512.pmaddubs.w.512"}
INT8_BY_PAIRS = replace(
    INT8,
    name="int8 by pairs",
    features=("avx2",),
    multiply_add=_calling("irc_pairs", "int32"),
    support={lanes: _pairs(lanes, add) for lanes, add in _VPMADDWD.items()},
    registers={8: 4, 16: 7},
)
INT8_IN_WORDS = replace(
    INT8_BY_PAIRS,
    name="int8 in words",
    multiply_add=_calling("irc_in_words", "int32"),
    support={lanes: _in_words(lanes, _VPMADDUBSW[lanes], add) for lanes, add in _VPMADDWD.items()},
    registers={8: 1, 16: 3},
)
"""In the place of INT8_BY_PAIRS, of weights that are small by twos."""

ON_BYTES: Sequence[Arithmetic] = (INT8, INT8_ON_AVX, INT8_BY_PAIRS)
"""Those of any 8 bits, the fastest first."""

ARITHMETICS: Sequence[Arithmetic] = (F32, BF16, *ON_BYTES, INT8_IN_WORDS)
"""All there are."""


def arithmetic_of_bytes(features: Collection[str]) -> Arithmetic | None:
    """The fastest arithmetic of u8 by i8 of a processor with these features; None where there is none."""
    if "avx512f" in features and "avx512bw" not in features:
        return None  # its vectors have no words
    return next((each for each in ON_BYTES if all(name in features for name in each.features)), None)


def fastest_for(weights: NDArray[np.int8], arithmetic: Arithmetic) -> Arithmetic:
    """The fastest arithmetic that multiplies by such weights [groups, elements summed, columns] as exactly as `arithmetic`."""
    if arithmetic is not INT8_BY_PAIRS:
        return arithmetic
    groups, _, columns = weights.shape
    by_twos = weights.reshape(groups, -1, 2, columns)
    most, least = (end(by_twos, 0).sum(axis=2, dtype=np.int16) for end in (np.maximum, np.minimum))
    is_small = most.max(initial=0) <= EXACT_TOGETHER and least.min(initial=0) >= -EXACT_TOGETHER
    return INT8_IN_WORDS if is_small else arithmetic
