"""Scaled dot-product attention as one kernel: scores live in a few rows on the stack and are never written to memory.

Law: the kernel answers as ONNX's `Attention` does (opset 24), a fully masked row being zeros; but keys beyond the diagonal of a
causal attention are skipped, so a NaN there does not reach the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from irc.ir import DType

from .attention_plan import AttentionRequest, Plan, in_lanes, plan_of, rounded
from .casting import widened
from .kernel import Kernel, Writer, literal, tir_name
from .lanes import LOG2_E, across_rows, exp2_of_negative, extent, held, part, power_of_two, transposed
from .mathematics import tanh
from .views import View

LEAST = -3.4028234663852886e38
"""The least number in f32, which stands for -inf in many a mask."""


def attention(request: AttentionRequest) -> Kernel:
    """The kernel of an attention, whose pointers are those of query, key, value, the mask where there is one, what `behind`
    asks for, and output.

    Scores of a panel of keys at a time update a running maximum and sum (Milakov and Gimelshein 2018; Dao et al. 2022);
    with one panel that is the plain softmax.
    """
    return _Attention(request, plan_of(request)).written()


class _Attention:
    """The writing of one kernel."""

    def __init__(self, request: AttentionRequest, plan: Plan) -> None:
        self.request, self.plan, self.lanes = request, plan, request.lanes
        self.batch, self.heads, self.queries, self.size = request.query.shape
        self.shared, self.keys, self.value_size = request.key.shape[1], request.key.shape[2], request.value.shape[3]
        self.group = self.heads // self.shared
        self.panels = ceil(self.keys / plan.keys)
        self.chunks = ceil(self.queries / plan.span)
        self.width = rounded(self.value_size, request.lanes)
        # Without a mask scores are in units of log 2, so that exp needs no product; a mask's least number must not overflow.
        self.unit = LOG2_E if request.mask is None else 1.0
        w = self.writer = Writer()
        self.paired, self.lane = request.arithmetic.together > 1, tir_name(request.arithmetic.lane)
        self.query, self.key = (in_lanes(view, request.arithmetic.together) for view in (request.query, request.key))
        self.depth = self.query.shape[3]
        kinds = [request.arithmetic.lane] * 2 + [request.dtypes[2]] if self.paired else request.dtypes
        views = (self.query, self.key, request.value)
        self.q, self.k, self.v = (w.buffer(kind, extent(view)) for kind, view in zip(kinds, views, strict=True))
        self.mask = "" if request.mask is None else w.buffer(request.mask_dtype or DType.F32, extent(request.mask))
        behind, view = request.behind, request.output
        operands: Sequence[tuple[DType, View]] = () if behind is None else behind.operands
        self.operands = [(w.buffer(dtype, extent(each)), dtype, each) for dtype, each in operands]
        self.o_view = view if behind is None or behind.kept is None else behind.kept
        self.o = "" if self.o_view is view and behind is not None else w.buffer(DType.F32, extent(self.o_view))
        self.made = "" if behind is None else w.buffer(behind.dtype, extent(view))

    def written(self) -> Kernel:
        """The kernel: panels of keys, and within each the queries in blocks."""
        w, plan = self.writer, self.plan
        if self.paired:
            w.line(f'T.attr(0, "pragma_import_llvm", {self.request.arithmetic.support[self.lanes]!r})')
        self.key_panel = w.local(self.lane, plan.keys * self.depth)
        self.value_panel = w.local("float32", plan.keys * self.width)
        self.query_rows = w.local(self.lane, plan.block * self.depth)
        self.scores = w.local("float32", plan.block * plan.keys)
        self.factor, self.kept = w.local("float32", plan.block), w.local("float32", plan.block)
        self.most = self.sums = ""
        if self.panels > 1:
            state = self.group * rounded(plan.span, plan.block)
            self.most, self.sums = w.local("float32", state), w.local("float32", state)
        self.at_batch = w.let("int32", f"T.truncdiv(task, {self.shared * self.chunks})")
        self.at_shared = w.let("int32", f"T.truncmod(T.truncdiv(task, {self.chunks}), {self.shared})")
        self.start = w.let("int32", f"T.truncmod(task, {self.chunks}) * {plan.span}") if self.chunks > 1 else "0"
        count = w.let("int32", f"T.min({plan.span}, {self.queries} - {self.start})") if self.chunks > 1 else str(self.queries)
        with w.loop(self.panels) as panel:
            self.panel = panel
            self.first_key = w.let("int32", f"{panel} * {plan.keys}") if self.panels > 1 else "0"
            self.present = f"T.min({plan.keys}, {self.keys} - {self.first_key})" if self.panels > 1 else str(self.keys)
            self._pack_keys()
            self._pack_values()
            with w.loop(self.group) as member:
                self.head = w.let("int32", f"{self.at_shared} * {self.group} + {member}")
                with w.loop(_blocks(count, plan.block)) as block:
                    self._block(member, block, count)
        flops = 2 * self.batch * self.heads * self.queries * self.keys * (self.size + self.value_size)
        return w.kernel(self.batch * self.shared * self.chunks, flops)

    def _pack_keys(self) -> None:
        """The panel of keys as [vector of keys][depth][lanes]; the last keys repeat to fill a vector."""
        w, lanes, view = self.writer, self.lanes, self.key
        with w.loop(self.plan.keys // lanes if self.panels == 1 else f"T.truncdiv({self.present} + {lanes - 1}, {lanes})") as n:
            straight = view.strides[3] == 1 and self.depth >= lanes

            def place(lane: str, column: str) -> str:
                key = f"T.min({n} * {lanes} + {lane} + {self.first_key}, {self.keys - 1})"
                return view.at(self.at_batch, self.at_shared, key, column)

            if straight:
                starts = [w.let("int32", place(str(lane), "0")) for lane in range(lanes)]
                with w.loop(self.depth // lanes) as many:
                    parts = [self._wide(1, part(self.k, f"{start} + {many} * {lanes}", lanes), lanes) for start in starts]
                    rows = [held(w, self.lane, lanes, each) for each in parts]
                    for column, vector in enumerate(transposed(w, rows, self.lane)):
                        where = f"({n} * {self.depth} + {many} * {lanes} + {column}) * {lanes}"
                        w.line(f"{part(self.key_panel, where, lanes)} = {vector}")
            done = self.depth // lanes * lanes if straight else 0
            if done < self.depth:
                with w.loop(self.depth - done) as column, w.loop(lanes, "vectorized") as lane:
                    where = f"({n} * {self.depth} + {column} + {done}) * {lanes} + {lane}"
                    element = self._wide(1, f"{self.k}[{place(lane, f'{column} + {done}')}]")
                    w.line(f"{self.key_panel}[{where}] = {element}")

    def _wide(self, operand: int, text: str, lanes: int = 1) -> str:
        """What was read of an operand as kernels compute with it: f32, or pairs as they lie."""
        narrow = self.request.dtypes[operand] is DType.BF16 and not (self.paired and operand < 2)
        return widened(text, DType.BF16, lanes) if narrow else text

    def _pack_values(self) -> None:
        """The panel of values as [key][size, with zeros to whole vectors]."""
        w, lanes, view = self.writer, self.lanes, self.request.value
        with w.loop(self.present) as key:
            row = w.let("int32", view.at(self.at_batch, self.at_shared, f"{key} + {self.first_key}", "0"))
            whole, rest = divmod(self.value_size, lanes)
            for start, vectors, size in ((0, whole, lanes), (whole * lanes, bool(rest), rest)):
                if not vectors:
                    continue
                with w.loop(int(vectors)) as n, w.loop(size, "vectorized") as lane:
                    column = f"{n} * {lanes} + {start} + {lane}"
                    element = self._wide(2, f"{self.v}[{row} + ({column}) * {view.strides[3]}]")
                    w.line(f"{self.value_panel}[{key} * {self.width} + {column}] = {element}")
            if rest:
                with w.loop(lanes - rest, "vectorized") as lane:
                    w.line(f"{self.value_panel}[{key} * {self.width} + {self.value_size} + {lane}] = T.float32(0)")

    def _block(self, member: str, block: str, count: str) -> None:
        """A block of queries against a panel of keys."""
        w, plan = self.writer, self.plan
        self.first_row = w.let("int32", f"{self.start} + {block} * {plan.block}")
        self.state = w.let("int32", f"{member} * {rounded(plan.span, plan.block)} + {block} * {plan.block}")
        left = f"T.truncdiv({count} - {block} * {plan.block} + {plan.rows - 1}, {plan.rows})"
        one = _blocks(count, plan.block) == 1
        self.tiles = ceil(int(count) / plan.rows) if one else w.let("int32", f"T.min({plan.block // plan.rows}, {left})")
        self._pack_queries()
        self._score()
        with w.loop(self.tiles) as tile:
            limit = w.let("int32", self._limit(tile))
            self._softmax(f"({tile} * {plan.rows})", limit)
        self._weigh()

    def _limit(self, tile: str) -> str:
        """How many keys of the panel the queries of a tile look at; not below 0."""
        if not self.request.causal:
            return self.present
        last = f"{self.first_row} + ({tile}) * {self.plan.rows} + {self.plan.rows + self.request.before} - {self.first_key}"
        return f"T.max(T.min({last}, {self.present}), 0)"

    def _row(self, row: str) -> str:
        """The query of a row of the block; rows behind the last query repeat it, and are not stored."""
        text = f"{self.first_row} + {row}"
        return f"T.min({text}, {self.queries - 1})" if self.queries % self.plan.rows else text

    def _pack_queries(self) -> None:
        """The queries of a block one behind the other, scaled unless they are pairs, whose scores are."""
        w, lanes, view = self.writer, self.lanes, self.query
        factor = "" if self.paired else f" * {self._scale()}"
        with w.loop(f"{self.tiles} * {self.plan.rows}") as row:
            start = w.let("int32", view.at(self.at_batch, self.head, self._row(row), "0"))
            for first, vectors, size in _pieces(self.depth, lanes):
                with w.loop(vectors) as n, w.loop(size, "vectorized") as lane:
                    column = f"{n} * {lanes} + {first} + {lane}"
                    element = self._wide(0, f"{self.q}[{start} + ({column}) * {view.strides[3]}]")
                    w.line(f"{self.query_rows}[{row} * {self.depth} + {column}] = {element}{factor}")

    def _scale(self) -> str:
        """What scores are multiplied by."""
        scale = self.request.scale * self.unit if not self.request.softcap else self.request.scale / self.request.softcap
        return literal(scale, "float32")

    def _score(self) -> None:
        """The scores of all tiles of a block, by columns of the panel that stay in the first-level cache."""
        w, plan = self.writer, self.plan
        for first, groups, vectors in _pieces(plan.keys // self.lanes, plan.score_vectors):
            with w.loop(groups) as group:
                column = f"({group} * {vectors} + {first})"
                with w.loop(self.tiles) as tile:
                    if self.request.causal or self.panels > 1:
                        with w.block(f"if {column} * {self.lanes} < {self._limit(tile)}"):
                            self._score_tile(tile, column, vectors)
                    else:
                        self._score_tile(tile, column, vectors)

    def _score_tile(self, tile: str, column: str, vectors: int) -> None:
        w, rows, lanes = self.writer, self.plan.rows, self.lanes
        sums = w.local("float32", rows, vectors * lanes)
        with w.loop(rows, "unroll") as i, w.loop(vectors, "unroll") as j:
            w.line(f"{_tile(sums, i, j, lanes)} = T.broadcast(T.float32(0), {lanes})")
        with w.loop(self.depth) as k, w.loop(rows, "unroll") as i, w.loop(vectors, "unroll") as j:
            query = f"T.broadcast({self.query_rows}[({tile} * {rows} + {i}) * {self.depth} + {k}], {lanes})"
            keys, total = (
                part(self.key_panel, f"(({column} + {j}) * {self.depth} + {k}) * {lanes}", lanes),
                _tile(sums, i, j, lanes),
            )
            w.line(f"{total} = {self.request.arithmetic.multiply_add(total, query, keys, lanes)}")
        factor = f" * T.broadcast({self._scale()}, {lanes})" if self.paired else ""
        with w.loop(rows, "unroll") as i, w.loop(vectors, "unroll") as j:
            place = f"({tile} * {rows} + {i}) * {self.plan.keys} + ({column} + {j}) * {lanes}"
            w.line(f"{part(self.scores, place, lanes)} = {_tile(sums, i, j, lanes)}{factor}")

    def _softmax(self, first: str, limit: str) -> None:
        """The scores of a tile become exp of what they are above the greatest so far; `factor` and `kept` what outputs need."""
        w, lanes, rows = self.writer, self.lanes, self.plan.rows
        vectors = w.let("int32", f"T.truncdiv({limit} + {lanes - 1}, {lanes})")
        partial, base = w.local("float32", power_of_two(rows) * lanes), w.local("float32", rows)
        with w.loop(rows) as row:
            line = w.let("int32", f"({first} + {row}) * {self.plan.keys}")
            self._adjust(f"({first} + {row})", line, vectors)
            self._greatest(f"({first} + {row})", line, vectors, f"{partial}[{row} * {lanes}")
        most = across_rows(w, partial, power_of_two(rows), lanes, "float32", "T.max({0}, {1})")
        with w.loop(rows, "vectorized") as row:
            greatest, state = f"{most}[{row}]", f"{self.state} + {first} + {row}"
            before = ""
            if self.panels > 1:
                before = f"T.if_then_else({self.panel} == 0, T.float32('-inf'), {self.most}[{state}])"
                greatest = w.value("float32", f"T.max({greatest}, {w.value('float32', before)})")
            # Of a row that sees nothing all powers are to be 0, and not NaN; ONNX Runtime means that by the least number too.
            w.line(f"{base}[{row}] = T.Select({greatest} <= {literal(LEAST, 'float32')}, T.float32(0), {greatest})")
            if self.panels > 1:
                earlier = w.value("float32", before)
                w.line(f"{self.kept}[{first} + {row}] = {self._power(earlier, f'{base}[{row}]')}")
                w.line(f"{self.most}[{state}] = {greatest}")
        with w.loop(rows) as row:
            self._powers(f"({first} + {row}) * {self.plan.keys}", vectors, f"{base}[{row}]", f"{partial}[{row} * {lanes}")
        sums = across_rows(w, partial, power_of_two(rows), lanes, "float32", "{0} + {1}")
        with w.loop(rows, "vectorized") as row:
            total, state = f"{sums}[{row}]", f"{self.state} + {first} + {row}"
            if self.panels > 1:
                earlier = (
                    f"T.if_then_else({self.panel} == 0, T.float32(0), {self.sums}[{state}] * {self.kept}[{first} + {row}])"
                )
                total = w.value("float32", f"{total} + {earlier}")
                w.line(f"{self.sums}[{state}] = {total}")
            inverse = f"T.Select({total} == T.float32(0), T.float32(0), T.float32(1) / {total})"
            if self.panels > 1:
                inverse = f"T.if_then_else({self.panel} == {self.panels - 1}, {inverse}, T.float32(1))"
            w.line(f"{self.factor}[{first} + {row}] = {inverse}")

    def _powers(self, line: str, vectors: str, base: str, partial: str) -> None:
        """The scores of a row become powers, whose sum stays in lanes."""
        w, lanes = self.writer, self.lanes
        sums, line = w.local("float32", lanes), w.let("int32", line)
        base = w.value("float32", base)
        w.line(f"{part(sums, 0, lanes)} = T.broadcast(T.float32(0), {lanes})")
        with w.loop(vectors) as n, w.loop(lanes, "vectorized") as lane:
            score = f"{self.scores}[{line} + {n} * {lanes} + {lane}]"
            power = self._power(score, base)
            w.line(f"{score} = {power}")
            w.line(f"{sums}[{lane}] = {sums}[{lane}] + {power}")
        with w.loop(lanes, "vectorized") as lane:
            w.line(f"{partial} + {lane}] = {sums}[{lane}]")

    def _power(self, score: str, base: str) -> str:
        w = self.writer
        above = f"{score} - {base}" if self.request.mask is None else f"({score} - {base}) * {literal(LOG2_E, 'float32')}"
        return exp2_of_negative(w, w.value("float32", above))

    def _greatest(self, row: str, line: str, vectors: str, partial: str) -> None:
        """The greatest scores of a row, by lanes; what it may not see becomes -inf."""
        w, lanes = self.writer, self.lanes
        most = w.local("float32", lanes)
        w.line(f"{part(most, 0, lanes)} = T.broadcast(T.float32('-inf'), {lanes})")
        seen = w.let("int32", self._seen(row))
        whole = w.let("int32", f"T.truncdiv({seen}, {lanes})")
        with w.loop(f"T.min({whole}, {vectors})") as n, w.loop(lanes, "vectorized") as lane:
            w.line(f"{most}[{lane}] = T.max({most}[{lane}], {self.scores}[{line} + {n} * {lanes} + {lane}])")
        if self.request.causal or self.keys % self.lanes:
            with w.loop(f"T.max({vectors} - {whole}, 0)") as n, w.loop(lanes, "vectorized") as lane:
                column = f"({whole} + {n}) * {lanes} + {lane}"
                score = f"{self.scores}[{line} + {column}]"
                w.line(f"{score} = T.Select({column} < {seen}, {score}, T.float32('-inf'))")
                w.line(f"{most}[{lane}] = T.max({most}[{lane}], {score})")
        with w.loop(lanes, "vectorized") as lane:
            w.line(f"{partial} + {lane}] = {most}[{lane}]")

    def _seen(self, row: str) -> str:
        """How many keys of the panel a row sees, up to the first that it does not see for where they stand."""
        if not self.request.causal:
            return self.present
        return f"T.max(T.min({self.first_row} + {row} + {1 + self.request.before} - {self.first_key}, {self.present}), 0)"

    def _adjust(self, row: str, line: str, vectors: str) -> None:
        """The soft cap and the mask upon scores."""
        w, lanes, cap = self.writer, self.lanes, self.request.softcap
        if cap:
            with w.loop(vectors) as n, w.loop(lanes, "vectorized") as lane:
                score = f"{self.scores}[{line} + {n} * {lanes} + {lane}]"
                w.line(f"{score} = {tanh(w, w.value('float32', score))} * {literal(cap * self.unit, 'float32')}")
        if self.request.mask is None:
            return
        whole, rest = f"T.truncdiv({self.present}, {lanes})", self.keys % lanes
        with w.loop(f"T.min({vectors}, {whole})") as n, w.loop(lanes, "vectorized") as lane:
            self._mask(row, line, f"{n} * {lanes} + {lane}")
        if rest:
            start = w.let("int32", f"{whole} * {lanes}")
            with (
                w.block(f"if T.And({self.panel} == {self.panels - 1}, {start} < {vectors} * {lanes})"),
                w.loop(rest, "vectorized") as lane,
            ):
                self._mask(row, line, f"{start} + {lane}")

    def _mask(self, row: str, line: str, column: str) -> None:
        view = self.request.mask
        assert view is not None
        place = view.at(self.at_batch, self.head, self._row(row), f"{column} + {self.first_key}")
        text = f"{self.mask}[{place}]"
        if self.request.mask_dtype is DType.BOOL:
            text = f"T.Select({text} != T.int8(0), T.float32(0), T.float32('-inf'))"
        score = f"{self.scores}[{line} + {column}]"
        self.writer.line(f"{score} = {score} + {text}")

    def _weigh(self) -> None:
        """Values weighed by the powers of a block, onto what the panels before gave, and the last time divided by the sum."""
        w, lanes = self.writer, self.lanes
        for first, groups, vectors in _pieces(self.width // lanes, self.plan.value_vectors):
            if self.value_size % lanes:  # the last vector is not whole: which one that is has to be known here
                for group in range(groups):
                    with w.loop(self.tiles) as tile:
                        column = group * vectors + first
                        self._weigh_tile(tile, str(column), vectors, min(vectors * lanes, self.value_size - column * lanes))
                continue
            with w.loop(groups) as group, w.loop(self.tiles) as tile:
                self._weigh_tile(tile, f"({group} * {vectors} + {first})", vectors, vectors * lanes)

    def _weigh_tile(self, tile: str, column: str, vectors: int, size: int) -> None:
        w, rows, lanes = self.writer, self.plan.rows, self.lanes
        sums = w.local("float32", rows, vectors * lanes)
        with w.loop(rows, "unroll") as i, w.loop(vectors, "unroll") as j:
            w.line(f"{_tile(sums, i, j, lanes)} = T.broadcast(T.float32(0), {lanes})")
        with w.loop(w.let("int32", self._limit(tile))) as k, w.loop(rows, "unroll") as i, w.loop(vectors, "unroll") as j:
            power = f"T.broadcast({self.scores}[({tile} * {rows} + {i}) * {self.plan.keys} + {k}], {lanes})"
            values = part(self.value_panel, f"{k} * {self.width} + ({column} + {j}) * {lanes}", lanes)
            w.line(f"{_tile(sums, i, j, lanes)} = {_tile(sums, i, j, lanes)} + {power} * {values}")
        for i in range(rows):
            row = w.let("int32", f"{tile} * {rows} + {i}")
            if self.queries % rows:
                with w.block(f"if {self.first_row} + {row} < {self.queries}"):
                    self._store(row, column, sums, i, size)
            else:
                self._store(row, column, sums, i, size)

    def _store(self, row: str, column: str, sums: str, i: int, size: int) -> None:
        w, lanes = self.writer, self.lanes
        at = self.at_batch, self.head, w.let("int32", f"{self.first_row} + {row}")
        start = w.let("int32", self.o_view.at(*at, "0"))
        for first in range(0, size, lanes):
            width = min(lanes, size - first)
            with w.loop(width, "vectorized") as lane:
                element = f"{column} * {lanes} + {first} + {lane}"
                place = f"{self.o}[{start} + ({element}) * {self.o_view.strides[3]}]"
                total = f"{sums}[{i}, {first} + {lane}]"
                if self.panels > 1:
                    total += f" + T.if_then_else({self.panel} == 0, T.float32(0), {place} * {self.kept}[{row}])"
                total = f"({total}) * {self.factor}[{row}]"
                if self.o:
                    w.line(f"{place} = {total}")
                else:
                    self._finish(total, (*at, element))
            if self.o and self.made:
                with w.block(f"if {self.panel} == {self.panels - 1}"), w.loop(width, "vectorized") as lane:
                    element = f"{column} * {lanes} + {first} + {lane}"
                    self._finish(f"{self.o}[{start} + ({element}) * {self.o_view.strides[3]}]", (*at, element))

    def _finish(self, result: str, index: Sequence[str]) -> None:
        """What is made of a result, where it is to be."""
        w, behind = self.writer, self.request.behind
        assert behind is not None
        reads = [w.value(tir_name(dtype), f"{name}[{view.at(*index)}]") for name, dtype, view in self.operands]
        text = behind.body(w, [w.value("float32", result), *reads])
        w.line(f"{self.made}[{self.request.output.at(*index)}] = {text}")


def _pieces(size: int, step: int) -> list[tuple[int, int, int]]:
    """Where a run of whole steps and what is left begin, how many steps there are, and how long each is."""
    whole, rest = divmod(size, step)
    pieces = [(0, whole, step), (whole * step, 1, rest)]
    return [(start, count, length) for start, count, length in pieces if count and length]


def _tile(array: str, i: str, j: str, lanes: int) -> str:
    return f"{array}[{i}, T.ramp({j} * {lanes}, 1, {lanes})]"


def _blocks(count: str, block: int) -> int | str:
    """How many blocks hold `count` rows."""
    return ceil(int(count) / block) if count.isdecimal() else f"T.truncdiv({count} + {block - 1}, {block})"
