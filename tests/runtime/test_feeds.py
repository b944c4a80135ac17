"""Feeds: what fits is taken as it is, and what does not is told in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import pytest

from irc.runtime import FeedChecker, FeedError, SignatureEntry

X = SignatureEntry("x", "f32", ("N", 4))
CHECKER = FeedChecker(
    [
        X,
        SignatureEntry("ids", "i64", ("N",)),
        SignatureEntry("k", "f64", (), optional=True),
    ],
    ["N"],
)
GOOD = {"x": np.zeros((2, 4), np.float32), "ids": np.zeros(2, np.int64)}


class NoArray:
    """Something nobody can make an array of."""


class OnAnotherDevice:
    """A tensor whose memory NumPy cannot see."""

    def __dlpack__(self, **options: object) -> object:
        raise BufferError("it is on a device")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_feeds_that_fit_go_through_untouched() -> None:
    assert CHECKER.check(GOOD) is GOOD


def test_an_optional_input_may_be_fed_or_left_out() -> None:
    with_default = CHECKER.check({**GOOD, "k": np.float64(2)})
    assert with_default["x"] is GOOD["x"]
    assert with_default["k"] == 2


BAD: dict[str, tuple[Mapping[str, object], str]] = {
    "an unknown name": ({**GOOD, "idx": 1}, r"no input idx \(did you mean ids\?\)"),
    "an unknown name like no other": ({**GOOD, "qqqq": 1}, r"no input qqqq \(its inputs are x, ids, k\)"),
    "a name too few": ({"x": GOOD["x"]}, r"input ids is missing \(feed ids: i64\[N\]\)"),
    "a wrong name": ({"x": GOOD["x"], "id": GOOD["ids"]}, r"no input id \(did you mean ids\?\)"),
    "another element type": (
        {**GOOD, "x": np.zeros((2, 4))},
        r"input x has element type f64, but the model wants f32 \(convert it with \.astype\(numpy\.float32\)\)",
    ),
    "another byte order": ({**GOOD, "x": GOOD["x"].astype(">f4")}, "element type >f4, but the model wants f32"),
    "another rank": ({**GOOD, "x": np.zeros(4, np.float32)}, r"has rank 1 \(shape \[4\]\), but the model wants rank 2"),
    "another size": (
        {**GOOD, "x": np.zeros((2, 5), np.float32)},
        r"input x has 5 in dim 1 \(shape \[2, 5\]\), but the model wants 4 \(it is f32\[N,4\]\)",
    ),
    "dims that disagree": ({**GOOD, "ids": np.zeros(3, np.int64)}, "dim N is 2 in x but 3 in ids"),
    "no array": ({**GOOD, "x": NoArray()}, "input x is a NoArray, which is no array"),
    "None": ({**GOOD, "x": None}, "input x is None, which is no array"),
    "a ragged list": ({**GOOD, "x": [[1.0, 2.0], [3.0]]}, "a list whose parts differ in length"),
    "a list of what it cannot hold": ({**GOOD, "ids": [0.5, 1.0]}, "input ids has values that i64 cannot hold"),
    "a list of numbers too large": ({**GOOD, "x": [[1e300] * 4] * 2}, "input x has values that f32 cannot hold"),
    "text for a number": ({**GOOD, "ids": ["a", "b"]}, "input ids holds str"),
    "a masked array": ({**GOOD, "x": np.ma.masked_array(GOOD["x"])}, r"masked array \(fill it with"),
    "memory elsewhere": ({**GOOD, "x": OnAnotherDevice()}, "cannot be taken over DLPack from a OnAnotherDevice"),
    "booleans for numbers": ({**GOOD, "ids": [True, False]}, "values that i64 cannot hold"),
}


@pytest.mark.parametrize("case", BAD)
def test_feeds_that_do_not_fit_are_explained(case: str) -> None:
    feeds, reason = BAD[case]
    with pytest.raises(FeedError, match=reason) as caught:
        CHECKER.check(feeds)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_feeds_that_are_no_mapping_are_explained() -> None:
    with pytest.raises(FeedError, match="the feeds are a list"):
        CHECKER.check([GOOD["x"]])  # type: ignore[arg-type]


def test_python_numbers_and_lists_are_taken_where_nothing_is_lost() -> None:
    fed = CHECKER.check({"x": [[1, 2, 3, 0.1]], "ids": (7,), "k": 3})
    x, ids, k = fed["x"], fed["ids"], fed["k"]
    assert isinstance(x, np.ndarray)
    assert x.dtype == np.float32
    assert isinstance(ids, np.ndarray)
    assert (ids.dtype, ids.tolist()) == (np.int64, [7])
    assert k == 3.0


def test_dlpack_is_taken_without_a_copy() -> None:
    class Tensor:
        """What another library's tensor looks like."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: object) -> object:
            return self.array.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    array = np.zeros((2, 4), np.float32)
    taken = CHECKER.check({**GOOD, "x": Tensor(array)})["x"]
    assert isinstance(taken, np.ndarray)
    assert np.shares_memory(taken, array)


def test_strings_come_in_any_of_their_forms() -> None:
    checker = FeedChecker([SignatureEntry("s", "str", (2,))])
    for given in (["a", "b"], np.array(["a", "b"]), np.array(["a", "b"], object)):
        taken = checker.check({"s": given})["s"]
        assert isinstance(taken, np.ndarray)
        assert (taken.dtype, taken.tolist()) == (object, ["a", "b"])
    with pytest.raises(FeedError, match="has to hold strings"):
        checker.check({"s": np.array([1, "b"], object)})


def test_sequences_optionals_and_maps() -> None:
    tensor = np.zeros(3, np.float32)
    sequence = FeedChecker([SignatureEntry("s", "f32", ("N",), "sequence")])
    taken = sequence.check({"s": (tensor, tensor)})["s"]
    assert isinstance(taken, list)
    assert all(each is tensor for each in taken)
    with pytest.raises(FeedError, match=r"input s\[1\] has element type i64"):
        sequence.check({"s": [tensor, np.zeros(3, np.int64)]})
    with pytest.raises(FeedError, match=r"is a ndarray, but the model wants a sequence"):
        sequence.check({"s": tensor})
    optional = FeedChecker([SignatureEntry("o", "f32", ("N",), "optional")])
    assert optional.check({"o": None}) == {"o": None}
    assert optional.check({"o": tensor})["o"] is tensor
    mapping = FeedChecker([SignatureEntry("m", "f32", None, "map", key="i64")])
    assert mapping.check({"m": {1: 2.0}}) == {"m": {1: 2.0}}
    with pytest.raises(FeedError, match="wants a map"):
        mapping.check({"m": 1})


def test_an_unknown_rank_takes_every_shape() -> None:
    checker = FeedChecker([SignatureEntry("x", "f32", None)])
    for shape in ((), (3,), (1, 0, 2)):
        array = np.zeros(shape, np.float32)
        assert checker.check({"x": array})["x"] is array


def test_bfloat16_is_an_element_type_like_others() -> None:
    checker = FeedChecker([SignatureEntry("x", "bf16", (2,))])
    array = np.ones(2, ml_dtypes.bfloat16)
    assert checker.check({"x": array})["x"] is array
    with pytest.raises(FeedError, match=r"ml_dtypes\.bfloat16"):
        checker.check({"x": np.ones(2, np.float32)})
