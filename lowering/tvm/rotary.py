"""RotaryEmbedding: pairs of a head's elements turned by angles that follow from a token's position.

Law: as ONNX defines it in opset 23 (Su et al. 2021), in f32; elements behind the turned ones are copied. A position that there
are no angles for reads nothing: it leaves a word in the status, which ends the run with an error.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from irc.ir import DType

from .kernel import Kernel, Writer
from .lanes import extent
from .spans import spread, unraveled
from .views import View


@dataclass(frozen=True, slots=True)
class RotaryRequest:
    """Views of [batch, heads, tokens, size] in f32, of which the first `turned` elements are turned.

    `cosines` and `sines` are views of [batch, tokens, turned / 2]; with `positions`, i64 [batch, tokens], they are views of
    [positions, turned / 2]. A pair is an element and the one `turned / 2` behind it; where `interleaved` it is two neighbours.
    """

    source: View
    target: View
    cosines: View
    sines: View
    turned: int
    lanes: int
    interleaved: bool = False
    positions: View | None = None


def rotary_embedding(request: RotaryRequest) -> Kernel:
    """The kernel; the pointers: source, cosines, sines, positions and the status where there are positions, and target."""
    w, source, target = Writer(), request.source, request.target
    batch, heads, tokens, size = source.shape
    read, cosines, sines = (w.buffer(DType.F32, extent(view)) for view in (source, request.cosines, request.sines))
    positions = "" if request.positions is None else w.buffer(DType.I64, extent(request.positions))
    status = "" if request.positions is None else w.buffer(DType.I32, 1)
    written = w.buffer(DType.F32, extent(target))
    half = request.turned // 2
    with spread(w, batch * tokens, source.size) as (number, tasks), contextlib.ExitStack() as blocks:
        image, token = unraveled(w, number, (batch, tokens))
        angle = (image, token)
        if request.positions is not None:
            given = w.let("int64", f"{positions}[{request.positions.at(image, token)}]")
            most = request.cosines.shape[0]
            with w.block(f"if T.Or({given} < T.int64(0), {given} >= T.int64({most}))"):
                w.line(f"{status}[0] = T.int32(1)")
            blocks.enter_context(w.block("else"))
            angle = (w.let("int32", f'T.Cast("int32", {given})'),)
        with w.loop(heads) as head:

            def place(view: View, column: str) -> str:
                return view.at(image, head, token, column)

            for start, many, lanes in _vectors(half, request.lanes):
                with w.loop(many) as n, w.loop(lanes, "vectorized") as lane:
                    pair = f"{n} * {lanes} + {start} + {lane}"
                    first, second = pair, f"{pair} + {half}"
                    if request.interleaved:
                        first, second = f"({pair}) * 2", f"({pair}) * 2 + 1"
                    x = w.value("float32", f"{read}[{place(source, first)}]")
                    y = w.value("float32", f"{read}[{place(source, second)}]")
                    cosine = w.value("float32", f"{cosines}[{request.cosines.at(*angle, pair)}]")
                    sine = w.value("float32", f"{sines}[{request.sines.at(*angle, pair)}]")
                    w.line(f"{written}[{place(target, first)}] = {cosine} * {x} - {sine} * {y}")
                    w.line(f"{written}[{place(target, second)}] = {sine} * {x} + {cosine} * {y}")
            for start, many, lanes in _vectors(size - request.turned, request.lanes):
                with w.loop(many) as n, w.loop(lanes, "vectorized") as lane:
                    column = f"{n} * {lanes} + {start + request.turned} + {lane}"
                    w.line(f"{written}[{place(target, column)}] = {read}[{place(source, column)}]")
    return w.kernel(tasks, 3 * batch * heads * tokens * request.turned)


def _vectors(size: int, lanes: int) -> list[tuple[int, int, int]]:
    """Where whole vectors and what is left of `size` elements begin, how many vectors there are, and of how many lanes."""
    whole, rest = divmod(size, lanes)
    return [(start, many, width) for start, many, width in ((0, whole, lanes), (size - rest, 1, rest)) if many and width]
