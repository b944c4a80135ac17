"""Register tiles, panels and tasks of a contraction, from an analytic model of vector unit and caches.

Law: a tiling follows from what is cut, from the machine, and from its own few numbers, which `text` has; all are valid.

Model: a tile of `rows` x `vectors` accumulators takes rows * vectors multiply-adds for each reduced element, one vector load
for each of its vectors and one broadcast for each of its rows. Its time is that of the scarcest: multiply-add issue, loads, or
the latency of a multiply-add where there are too few accumulators to hide it (Low et al., "Analytical Modeling Is Enough for
High-Performance BLIS", 2016).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Machine:
    """What kernels are made for: f32 elements in a vector, vector registers, bytes of a core's L1 and L2, threads at work.

    `features` are the instruction sets beyond those that the vectors tell of.
    """

    lanes: int
    registers: int
    l1: int
    l2: int
    threads: int
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Extent:
    """What is cut: `groups` x `outer` x `rows` rows, `row_stride` elements apart in A, and sums of `depth` products."""

    outer: int
    rows: int
    columns: int
    depth: int
    groups: int
    row_stride: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a contraction is cut.

    A register tile has `tile_rows` rows and `vectors` vectors, a panel of B `panel` columns; the columns left over, `rest`,
    have a panel of `tail_panel`. A task has `panels_per_task` panels and `tiles_per_task` register tiles of rows. With
    `panel_first` neighbouring tasks have neighbouring panels and the same rows.
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

    @property
    def layout(self) -> tuple[int, int, int]:
        """How B lies: equal for tilings that read the same packed weights."""
        return self.panel, self.full_panels, self.tail_panel

    @property
    def text(self) -> str:
        """`12x2 4x1 panels`: rows and vectors of a register tile, tiles and panels of a task, and what neighbours differ in."""
        order = "panels" if self.panel_first else "rows"
        return f"{self.tile_rows}x{self.vectors} {self.tiles_per_task}x{self.panels_per_task} {order}"


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a task fetches from memory while it computes: of the panel of its thread's next task, `step` elements for each step
    of a sum. The next task of one of so many `threads` is as many behind.
    """

    threads: int
    step: int


FETCHED = 0.9
"""The share of L2 that the panel in use and what is fetched of the next may have."""
WIDEST_STEP = 16
"""Elements of a cache line: a step fetches one at most."""


def ahead_of(of: Extent, tiling: Tiling, machine: Machine) -> Ahead | None:
    """What to fetch ahead; None where B stays in a cache, or where too little is computed for each of its elements.

    The first register tile of a task otherwise waits for the whole panel, which no multiply-add hides.
    """
    panel = of.depth * tiling.panel
    room = int(FETCHED * machine.l2) // 4 - panel
    if of.groups > 1 or tiling.panels_per_task > 1 or 4 * of.columns * of.depth <= machine.l2 or room <= 0:
        return None
    step = -(-min(panel, room) // (tiling.tiles_per_task * of.depth))
    return Ahead(machine.threads, step) if step <= WIDEST_STEP else None


LATENCY = 4
"""Cycles of a multiply-add; as many independent ones have to be under way for each that may start in a cycle."""
LOAD = 0.1
"""Cycles that a load costs where it does not bind: of tiles that are as fast, the one with fewer is better."""
SHORTEST_TASK = 60_000.0
"""Cycles that a task of a long contraction takes at least: some 20 microseconds."""
TASK, START = 500.0, 4_000.0
"""Cycles in which a thread gets its next task; and in which all threads come to a step, and say that they are done."""
CYCLES_A_WEIGHT = 1.0
"""Cycles in which an element of B is fetched from memory, where few rows share it."""
TASKS = 32
"""Tasks of a long contraction: enough that a thread that comes late finds work, and that none is left alone for long."""
EVEN = 16
"""Tasks for each thread from which on it does not matter that one thread has one more."""
OVERHEAD = 24.0
"""Cycles in which a register tile is set up, beside clearing and storing its accumulators."""


NEIGHBOURS = 6
"""As many tilings at most are near the one that the model chooses."""


def choose_tiling(of: Extent, machine: Machine, vectors: int | None = None) -> Tiling:
    """The tiling that the model says is fastest, of all or of those whose panels have so many vectors."""
    tiles = _by_cycles(of, machine)
    return _with_tasks(*next(tile for tile in tiles if vectors in (None, tile[1])), of, machine)


def neighbours(of: Extent, machine: Machine) -> tuple[Tiling, ...]:
    """Tilings near the one that the model chooses, which a machine may like better, those first that gain most where they do.

    They have the best register tile of another width, twice or half as many tasks, or the other order of panels; all are
    different kernels.
    """
    chosen = choose_tiling(of, machine)
    widest = -(-of.columns // machine.lanes)
    tiles = [(min(rows, of.rows), min(vectors, widest)) for rows, vectors in _by_cycles(of, machine)]
    height, width = tiles[0]
    best = dict(reversed([(vectors, rows) for rows, vectors in tiles]))  # rows of the first of each width
    widths = [tile for tile in dict.fromkeys(tiles) if tile[1] != width and tile[0] == best[tile[1]]]
    heights = [tile for tile in dict.fromkeys(tiles) if tile[1] == width and tile[0] != height]
    near = [
        *(_with_tasks(*tile, of, machine) for tile in widths[:1]),
        _with_more_tasks(chosen),
        replace(chosen, panel_first=not chosen.panel_first),
        _with_fewer_tasks(chosen, of),
        *(_with_tasks(*tile, of, machine) for tile in (*widths[1:2], *heights[:1])),
    ]
    different = {_kernel_of(chosen, of): chosen}
    for tiling in near:
        different.setdefault(_kernel_of(tiling, of), tiling)
    return tuple(different.values())[1 : NEIGHBOURS + 1]


_TEXT = re.compile(r"(\d{1,2})x(\d) (\d{1,9})x(\d{1,9}) (panels|rows)\Z")


def read_tiling(text: str, of: Extent, machine: Machine) -> Tiling | None:
    """The tiling of which `text` is the text; None where it is that of none for the machine."""
    found = _TEXT.match(text)
    if found is None:
        return None
    tile_rows, vectors, tiles, panels = map(int, found.groups()[:4])
    if (tile_rows, vectors) not in _tiles(machine) or not tiles or not panels:
        return None
    full, rest = divmod(of.columns, vectors * machine.lanes)
    return Tiling(machine.lanes, tile_rows, vectors, full, rest, tiles, panels, found[5] == "panels")


def _by_cycles(of: Extent, machine: Machine) -> list[tuple[int, int]]:
    """The register tiles, that which the model says is fastest first."""

    def cycles(tile: tuple[int, int]) -> float:
        return _cycles(*tile, of.rows, of.columns, of.depth, machine) * _conflicts(*tile, of.row_stride, of.depth, machine)

    return sorted(_tiles(machine), key=cycles)


def _with_tasks(tile_rows: int, vectors: int, of: Extent, machine: Machine) -> Tiling:
    """The tiling with a register tile, cut into tasks by how long all of it takes."""
    full, rest = divmod(of.columns, vectors * machine.lanes)
    panels = of.groups * (full + (rest > 0))
    tiles = of.outer * -(-of.rows // tile_rows)
    cycles = of.groups * of.outer * _cycles(tile_rows, vectors, of.rows, of.columns, of.depth, machine)
    cycles = max(cycles, CYCLES_A_WEIGHT * of.groups * of.columns * of.depth)
    wanted = min(TASKS, int(cycles / SHORTEST_TASK))
    if wanted < 2 * machine.threads:
        tiles_per_task, together = _few_tasks(tiles, panels, cycles, machine.threads)
    else:
        wanted = -(-wanted // machine.threads) * machine.threads
        chunks = min(tiles, -(-wanted // panels))
        if panels * chunks % machine.threads and panels * chunks < EVEN * machine.threads:
            chunks = min(tiles, -(-chunks // machine.threads) * machine.threads)  # as many tasks for each thread
        tiles_per_task, together = -(-tiles // chunks), 1
    fits = 4 * of.columns * of.depth <= machine.l2 // 2
    return Tiling(machine.lanes, tile_rows, vectors, full, rest, tiles_per_task, together, fits)


def _few_tasks(tiles: int, panels: int, cycles: float, threads: int) -> tuple[int, int]:
    """Tiles and panels of a task where all takes so few cycles that handing out tasks counts: those that end first.

    The time is that of the thread with the most tasks, if all take as long as the longest.
    """

    def ends(cut: tuple[int, int]) -> tuple[float, int]:
        count = -(-tiles // cut[0]) * -(-panels // cut[1])
        turns = -(-count // threads)
        share = min(turns * cut[0] * cut[1] / (tiles * panels), 1.0)
        return share * cycles + turns * TASK + (START if count > 1 else 0.0), count

    most = 4 * threads
    cuts = (
        (-(-tiles // chunks), -(-panels // shares))
        for chunks in range(1, min(tiles, most) + 1)
        for shares in range(1, min(panels, most // chunks) + 1)
    )
    return min(dict.fromkeys(cuts), key=ends)


def _with_more_tasks(tiling: Tiling) -> Tiling:
    if tiling.tiles_per_task > 1:
        return replace(tiling, tiles_per_task=-(-tiling.tiles_per_task // 2))
    return replace(tiling, panels_per_task=-(-tiling.panels_per_task // 2))


def _with_fewer_tasks(tiling: Tiling, of: Extent) -> Tiling:
    if tiling.tiles_per_task < of.outer * -(-of.rows // tiling.tile_rows):
        return replace(tiling, tiles_per_task=2 * tiling.tiles_per_task)
    return replace(tiling, panels_per_task=2 * tiling.panels_per_task)


def _kernel_of(tiling: Tiling, of: Extent) -> tuple[int, ...]:
    """What is different between tilings whose kernels do different things."""
    tiles, panels = of.outer * -(-of.rows // tiling.tile_rows), of.groups * tiling.panels
    in_task = min(tiling.tiles_per_task, tiles), min(tiling.panels_per_task, panels)
    has_order = in_task[0] < tiles and in_task[1] < panels
    widest = -(-of.columns // tiling.lanes)
    return min(tiling.tile_rows, of.rows), min(tiling.vectors, widest), *in_task, has_order and tiling.panel_first


def _tiles(machine: Machine) -> list[tuple[int, int]]:
    """The register tiles that leave room for the vectors of B and the broadcasts under way.

    With AVX-512 and NEON a multiply-add takes one element as a broadcast. AVX2 broadcasts into a register, and LLVM begins with
    the next before the last was used: without a second, it keeps a sum in memory, which takes twice the time.
    """
    room = machine.registers - (1 if machine.registers > 16 else 2)
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
MISS = 2.2
"""Multiply-adds that could start in the time in which a line comes from L2."""


def _conflicts(tile_rows: int, vectors: int, row_stride: int, depth: int, machine: Machine) -> float:
    """By what a tile is slowed down whose rows of A meet in few sets of L1, where B passes through, too.

    Measured with AVX-512 for 9, 12 and 14 rows in one set: 4, 12 and 25 %. Every step then waits for L2, which shows where it
    has few multiply-adds: with AVX2, tiles of one vector with 10, 12 and 13 rows take 2.2, 2.7 and 3.9 times as long.
    """
    if 4 * depth < LINE * WAYS:
        return 1.0  # a row is in a few lines, which come back before they are needed
    sets = machine.l1 // (WAYS * LINE)
    places = [4 * row * row_stride // LINE % sets for row in range(tile_rows)]
    busiest = max(places.count(place) for place in places)
    if busiest < WAYS:
        return 1.0
    waits = MISS * busiest / (tile_rows * vectors) if busiest > WAYS else 1.0
    return max(1.0 + 0.03 * (busiest - WAYS + 1), waits)
