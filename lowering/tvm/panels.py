"""How the B of a contraction lies in memory: in panels of columns, in the order in which the inner loop reads it.

Law: [groups, panels, lanes of a sum, columns of a panel, elements of a lane], the last panel filled up with zeros.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .arithmetic import F32, Arithmetic
from .tiling import Tiling

Element = TypeVar("Element", bound=np.generic)


def packed(weights: NDArray[Element], tiling: Tiling, arithmetic: Arithmetic = F32) -> NDArray[Element]:
    """B of shape [groups, elements summed, columns] in panels, one row for each group, the last panel filled up with zeros.

    What shares a lane lies side by side: [panels, lanes of a sum, columns of a panel, elements of a lane].
    """
    groups, summed, _ = weights.shape
    result = np.empty((groups, summed * packed_columns(tiling)), weights.dtype)
    pack(weights, tiling, result, arithmetic)
    return result


def packed_columns(tiling: Tiling) -> int:
    """Columns of B in panels, those filled up with zeros among them."""
    return tiling.full_panels * tiling.panel + tiling.tail_panel


def pack(weights: NDArray[Element], tiling: Tiling, result: NDArray[Element], arithmetic: Arithmetic = F32) -> None:
    """As `packed`, into an array of its size."""
    groups, summed, columns = weights.shape
    together = arithmetic.together
    lanes, full = summed // together, columns // tiling.panel
    split = weights.reshape(groups, lanes, together, columns).transpose(0, 1, 3, 2)
    rows, inside = result.reshape(groups, -1), full * tiling.panel
    body = rows[:, : inside * summed].reshape(groups, full, lanes, tiling.panel, together)
    body[...] = split[:, :, :inside].reshape(groups, lanes, full, tiling.panel, together).transpose(0, 2, 1, 3, 4)
    tail = rows[:, inside * summed :].reshape(groups, lanes, tiling.tail_panel, together)
    tail[:, :, : columns - inside] = split[:, :, inside:]
    tail[:, :, columns - inside :] = 0
