"""Views against numpy's own: the elements are where numpy finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irc.lowering.tvm.views import View


def elements(view: View, buffer: Any) -> Any:
    """What a view shows of a buffer."""
    indices = np.full(view.shape, view.offset)
    for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        indices = indices + (np.arange(size) * stride).reshape([-1 if axis == other else 1 for other in range(len(view.shape))])
    return buffer[indices]


@st.composite
def moved(draw: st.DrawFn) -> tuple[View, Any, Any]:
    """A view with the array it should show and the buffer it is of, after some steps drawn at random."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    buffer = np.arange(int(np.prod(shape)))
    view, array = View.dense(shape), buffer.reshape(shape)
    for _ in range(draw(st.integers(0, 4))):
        step = draw(st.sampled_from(["permute", "slice", "broadcast", "reshape"]))
        if step == "permute":
            order = draw(st.permutations(range(array.ndim)))
            view, array = view.permuted(order), array.transpose(order)
        elif step == "slice":
            axis = draw(st.integers(0, array.ndim - 1))
            start = draw(st.integers(0, array.shape[axis] - 1))
            pace = draw(st.sampled_from([1, 2, -1]))
            taken = np.arange(start, -1, pace) if pace < 0 else np.arange(start, array.shape[axis], pace)
            view = view.sliced(axis, start, len(taken), pace)
            array = array.take(taken, axis)
        elif step == "broadcast":
            more = (draw(st.integers(1, 3)), *array.shape)
            view, array = view.broadcast(more), np.broadcast_to(array, more)
        else:
            flat = (array.size,) if draw(st.booleans()) else (*array.shape[:-1], 1, array.shape[-1])
            shaped = view.reshaped(flat)
            if shaped is not None:
                view, array = shaped, array.reshape(flat)
    return view, array, buffer


@given(moved())
def test_a_view_shows_what_numpy_shows(case: tuple[View, Any, Any]) -> None:
    view, array, buffer = case
    assert view.shape == array.shape
    np.testing.assert_array_equal(elements(view, buffer), array)


@given(moved())
def test_the_place_of_an_element_is_an_expression(case: tuple[View, Any, Any]) -> None:
    view, array, buffer = case
    for index in np.ndindex(view.shape):
        place = eval(view.at(*map(str, index)))
        assert buffer[place] == array[index]


@given(moved())
def test_dense_is_row_major_from_the_start(case: tuple[View, Any, Any]) -> None:
    view, array, _ = case
    expected = elements(view, np.arange(10**4)).reshape(-1).tolist() == list(range(array.size))
    assert view.is_dense == expected


def test_a_transposed_matrix_has_no_other_shape() -> None:
    assert View.dense((3, 4)).permuted((1, 0)).reshaped((12,)) is None
    assert View.dense((2, 3, 4)).reshaped((6, 4)) == View((6, 4), (4, 1))
