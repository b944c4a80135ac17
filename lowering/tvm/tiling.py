"""Register tiles, panels and tasks of a contraction, from an analytic model of vector unit and caches.

Model: a tile of `rows` x `vectors` accumulators takes rows * vectors multiply-adds for each reduced element, one vector load
for each of its vectors and one broadcast for each of its rows. Its time is that of the scarcest: multiply-add issue, loads, or
the latency of a multiply-add where there are too few accumulators to hide it (Low et al., "Analytical Modeling Is Enough for
High-Performance BLIS", 2016).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """What kernels are made for: f32 elements in a vector, vector registers, bytes of a core's L1 and L2, threads at work."""

    lanes: int
    registers: int
    l1: int
    l2: int
    threads: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a contraction is cut.

    A register tile has `tile_rows` rows and `vectors` vectors, a panel of B `panel` columns; the columns left over, `rest`,
    have a panel of `tail_panel`. A task has `panels_per_task` panels and `tiles_per_task` register tiles of rows. With
    `panel_first` neighbouring
    tasks have neighbouring panels and the same rows.
    """

    lanes: int
    tile_rows: int
    vectors: int
    full_panels: int
    rest: int
    tiles_per_task: int
    panels_per_task: int
    panel_first: bool

    @property
    def panel(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    @property
    def tail_vectors(self) -> int:
        """Vectors of the last panel; 0 where all panels are full."""
        return -(-self.rest // self.lanes)

    @property
    def tail_panel(self) -> int:
        """Columns of the last panel, those filled up with zeros among them."""
        return self.tail_vectors * self.lanes

    @property
    def panels(self) -> int:
        """How many panels there are."""
        return self.full_panels + (self.rest > 0)


LATENCY = 4
"""Cycles of a multiply-add; as many independent ones have to be under way for each that may start in a cycle."""
LOAD = 0.1
"""Cycles that a load costs where it does not bind: of tiles that are as fast, the one with fewer is better."""
SHORTEST_TASK = 2_000_000
"""Floating-point operations that are worth a task of their own: some 20 microseconds of one core."""
OPERATIONS_A_WEIGHT = 32
"""Floating-point operations that take as long as fetching an element of B from memory, where few rows share it."""
TASKS = 32
"""Tasks of a long contraction: enough that a thread that comes late finds work, and that none is left alone for long."""
EVEN = 16
"""Tasks for each thread from which on it does not matter that one thread has one more."""
OVERHEAD = 24.0
"""Cycles in which a register tile is set up, beside clearing and storing its accumulators."""


def choose_tiling(outer: int, rows: int, columns: int, depth: int, groups: int, row_stride: int, machine: Machine) -> Tiling:
    """The tiling that the model says is fastest for `groups` x `outer` x `rows` rows, `columns` and sums of `depth` products.

    Rows lie `row_stride` elements apart in A.
    """

    def cycles(tile: tuple[int, int]) -> float:
        return _cycles(*tile, rows, columns, depth, machine) * _conflicts(tile[0], row_stride, depth, machine)

    tile_rows, vectors = min(_tiles(machine), key=cycles)
    panel = vectors * machine.lanes
    full, rest = divmod(columns, panel)
    panels = groups * (full + (rest > 0))
    tiles = outer * -(-rows // tile_rows)
    flops = 2 * groups * outer * rows * columns * depth
    work = max(flops, OPERATIONS_A_WEIGHT * groups * columns * depth)
    wanted = max(1, min(TASKS, work // SHORTEST_TASK))
    if wanted > 1:
        wanted = -(-wanted // machine.threads) * machine.threads
    chunks = min(tiles, max(1, -(-wanted // panels)))
    if wanted > 1 and panels * chunks % machine.threads and panels * chunks < EVEN * machine.threads:
        chunks = min(tiles, -(-chunks // machine.threads) * machine.threads)  # as many tasks for each thread
    together = max(1, panels // wanted) if wanted < 2 * machine.threads else 1
    fits = 4 * columns * depth <= machine.l2 // 2
    return Tiling(machine.lanes, tile_rows, vectors, full, rest, -(-tiles // chunks), together, fits)


def _tiles(machine: Machine) -> list[tuple[int, int]]:
    """The register tiles that leave room for the vectors of B and one broadcast."""
    room = machine.registers - 1
    return [(rows, vectors) for vectors in range(1, 7) for rows in range(1, 15) if rows * vectors + vectors <= room]


def _cycles(tile_rows: int, vectors: int, rows: int, columns: int, depth: int, machine: Machine) -> float:
    """The cycles of all tiles of one outer index, by the model."""
    full, rest = divmod(columns, vectors * machine.lanes)
    tail = -(-rest // machine.lanes)
    tiles, rest_rows = divmod(rows, tile_rows)

    def tile(count: int, width: int) -> float:
        loads = width + count / 2
        return depth * (max(count * width, loads, LATENCY) + LOAD * loads) + OVERHEAD + 3 * count * width

    total = 0.0
    for width, times in ((vectors, full), (tail, int(rest > 0))):
        if times:
            total += times * (tiles * tile(tile_rows, width) + (tile(rest_rows, width) if rest_rows else 0.0))
    return total


WAYS = 8
"""Lines in a set of L1."""
LINE = 64
"""Bytes of a cache line."""


def _conflicts(tile_rows: int, row_stride: int, depth: int, machine: Machine) -> float:
    """By what a tile is slowed down whose rows of A meet in few sets of L1, where B passes through, too.

    Measured for 9, 12 and 14 rows in one set: 4, 12 and 25 %.
    """
    if 4 * depth < LINE * WAYS:
        return 1.0  # a row is in a few lines, which come back before they are needed
    sets = machine.l1 // (WAYS * LINE)
    places = [4 * row * row_stride // LINE % sets for row in range(tile_rows)]
    busiest = max(places.count(place) for place in places)
    return 1.0 + 0.03 * max(0, busiest - WAYS + 1)
