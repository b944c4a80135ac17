"""Instructions of AVX-512 that LLVM has only as intrinsics or as casts of types that TVM does not keep, for `Writer.at_once`.

Law: each is a pure function of its lanes, whatever their number up to `MOST`, for targets that have FEATURES, or HALVING.

Source: Intel's manual of instructions, VCVTNEPS2BF16, VRCP14PS, VREDUCEPS and VSCALEFPS; LLVM's intrinsics of these names.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 16
"""Lanes of the widest vector."""
FEATURES = frozenset({"avx512f", "avx512dq"})
"""What a target has to have for all of them but `halved`."""
HALVING = frozenset({"avx512bf16"})
"""What it has to have for that one."""


def halved(lanes: int) -> tuple[str, str]:
    """The bits of f32 as bf16, to the nearest, of two to the even one: u16. Denormals are zeros, NaN is quiet and stays NaN."""
    numbers, bits, halves = (_vector(lanes, kind) for kind in ("float", "i16", "bfloat"))
    steps = (
        f"  %x = load {numbers}, ptr %x.at, align 4",
        f"  %h = fptrunc {numbers} %x to {halves}",
        f"  %r = bitcast {halves} %h to {bits}",
        f"  store {bits} %r, ptr %r.at, align 2",
    )
    return _function(f"irc_halved_{lanes}", ("x",), steps)


def reciprocal(lanes: int) -> tuple[str, str]:
    """1 / x to 2**-14 relative; 0 of infinity."""
    return _of_sixteen("reciprocal", lanes, ("x",), "rcp14.ps.512", "<16 x float> %x, <16 x float> %x, i16 -1")


def fraction(lanes: int) -> tuple[str, str]:
    """x less the greatest integer that is not above it, exactly; 0 of infinities."""
    down = 1  # rounded so, to no digits behind the point
    operands = f"<16 x float> %x, i32 {down}, <16 x float> %x, i16 -1, i32 {_AS_EVER}"
    return _of_sixteen("fraction", lanes, ("x",), "mask.reduce.ps.512", operands)


def scaled(lanes: int) -> tuple[str, str]:
    """x 2**floor(y), infinite and 0 beyond the range, also where y is an infinity and x is finite and not 0."""
    operands = f"<16 x float> %x, <16 x float> %y, <16 x float> %x, i16 -1, i32 {_AS_EVER}"
    return _of_sixteen("scaled", lanes, ("x", "y"), "mask.scalef.ps.512", operands)


_AS_EVER = 4
"""Rounding as the processor is set to."""


def _vector(lanes: int, kind: str) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def _of_sixteen(called: str, lanes: int, names: Sequence[str], intrinsic: str, operands: str) -> tuple[str, str]:
    """An intrinsic of 16 lanes for as many or fewer, of which the others are anything."""
    assert lanes <= MOST
    kind = f"<{lanes} x float>"
    first = ", ".join(f"i32 {lane}" for lane in range(lanes))
    filled = ", ".join([first, *["i32 poison"] * (MOST - lanes)])
    steps: list[str] = []
    for each in names:
        steps.append(f"  %{each}.in = load {kind}, ptr %{each}.at, align 4")
        steps.append(f"  %{each} = shufflevector {kind} %{each}.in, {kind} poison, <16 x i32> <{filled}>")
    steps.append(f"  %all = call <16 x float> @llvm.x86.avx512.{intrinsic}({operands})")
    steps.append(f"  %r = shufflevector <16 x float> %all, <16 x float> poison, <{lanes} x i32> <{first}>")
    steps.append(f"  store {kind} %r, ptr %r.at, align 4")
    name, text = _function(f"irc_{called}_{lanes}", names, steps)
    types = ", ".join(operand.rsplit(" ", 1)[0] for operand in operands.split(", "))
    return name, f"{text}declare <16 x float> @llvm.x86.avx512.{intrinsic}({types})\n"


def _function(name: str, names: Sequence[str], steps: Sequence[str]) -> tuple[str, str]:
    places = ", ".join(f"ptr %{each}.at" for each in (*names, "r"))
    head = f"define linkonce_odr hidden i32 @{name}({places}) alwaysinline {{"
    return name, "\n".join((head, *steps, "  ret i32 0", "}\n"))
