"""Calibration data: what is taken, how it is cut into samples, what is refused in which words, and how it is dealt out."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from irc.ir import UsageError
from irc.lowering.calibration import Calibration, files, layouts, read_calibration, sources
from irc.runtime import SignatureEntry

IMAGE = SignatureEntry("x", "f32", ("batch", 3, 4, 4))
ONE_IMAGE = SignatureEntry("x", "f32", (1, 3, 4, 4))
TEXT = (SignatureEntry("ids", "i64", ("batch", "tokens")), SignatureEntry("mask", "i64", ("batch", "tokens")))


def numbered(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """An array whose elements all differ."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def read(data: Any, *inputs: SignatureEntry, **settings: Any) -> Calibration:
    return read_calibration(data, inputs or (IMAGE,), **settings)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "calib.npz"
    np.savez(path, **arrays)
    return path


# How arrays are cut into samples


@pytest.mark.parametrize(
    ("entry", "shape", "count", "sample"),
    [
        (IMAGE, (5, 3, 4, 4), 5, (1, 3, 4, 4)),
        (IMAGE, (5, 2, 3, 4, 4), 5, (2, 3, 4, 4)),
        (IMAGE, (3, 4, 4), 1, (1, 3, 4, 4)),
        (ONE_IMAGE, (5, 3, 4, 4), 5, (1, 3, 4, 4)),
        (ONE_IMAGE, (5, 1, 3, 4, 4), 5, (1, 3, 4, 4)),
        (ONE_IMAGE, (3, 4, 4), 1, (1, 3, 4, 4)),
        (SignatureEntry("x", "f32", (2, 7)), (6, 7), 3, (2, 7)),
        (SignatureEntry("x", "f32", ()), (6,), 6, ()),
        (SignatureEntry("x", "f32", ()), (), 1, ()),
        (SignatureEntry("x", "f32", None), (6, 7), 1, (6, 7)),
        (SignatureEntry("x", "f32", (None, 7)), (6, 7), 6, (1, 7)),
    ],
    ids=str,
)
def test_the_rank_decides_what_a_sample_is(
    tmp_path: Path, entry: SignatureEntry, shape: tuple[int, ...], count: int, sample: tuple[int, ...]
) -> None:
    array = numbered(*shape)
    found = list(read(saved(tmp_path, x=array), entry))
    assert [feeds["x"].shape for feeds in found] == [sample] * count
    np.testing.assert_array_equal(np.concatenate([feeds["x"].reshape(-1) for feeds in found]), array.reshape(-1))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_several_inputs_are_cut_alike(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "calib.npz"
    ids, mask = numbered(4, 6, dtype=np.int64), np.ones((4, 6), np.int64)
    save(path, ids=ids, mask=mask)
    found = list(read(path, *TEXT))
    np.testing.assert_array_equal(np.concatenate([feeds["ids"] for feeds in found]), ids)
    assert [feeds["mask"].shape for feeds in found] == [(1, 6)] * 4


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    for name, number in (("b", 1), ("a", 0), ("c", 2)):
        np.save(tmp_path / f"{name}.npy", np.full((3, 4, 4), number, np.float32))
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / ".hidden.npy").write_text("not ours either")
    assert [feeds["x"][0, 0, 0, 0] for feeds in read(tmp_path)] == [0, 1, 2]
    assert [feeds["x"][0, 0, 0, 0] for feeds in read(str(tmp_path / "c.npy"))] == [2]


def test_a_folder_of_archives_may_hold_several_samples_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=numbered(2, 3, 4, 4))
    np.savez(tmp_path / "1.npz", x=-numbered(3, 4, 4))
    assert [float(feeds["x"].sum()) for feeds in read(tmp_path)] == [1128, 3432, -1128]


def test_a_file_for_each_input_or_a_folder_for_each(tmp_path: Path) -> None:
    for form in ("files", "folders/ids", "folders/mask"):
        (tmp_path / form).mkdir(parents=True)
    for entry in TEXT:
        np.save(tmp_path / "files" / f"{entry.name}.npy", numbered(4, 6, dtype=np.int64))
        for number in range(2):
            np.save(tmp_path / "folders" / entry.name / f"{number}.npy", numbered(2, 6, dtype=np.int64))
    for form in ("files", "folders"):
        found = list(read(tmp_path / form, *TEXT))
        assert [sorted(feeds) for feeds in found] == [["ids", "mask"]] * 4


def test_types_that_files_cannot_name_are_those_of_the_inputs(tmp_path: Path) -> None:
    array = numbered(2, 4, dtype=ml_dtypes.bfloat16)
    entry = SignatureEntry("x", "bf16", (1, 4))
    for data in (saved(tmp_path, x=array), iter([{"x": array[:1]}, {"x": array[1:]}])):
        found = [feeds["x"] for feeds in read(data, entry)]
        np.testing.assert_array_equal(np.concatenate(found).astype(np.float32), array.astype(np.float32))


def test_an_array_in_fortran_order_is_read_as_what_it_is(tmp_path: Path) -> None:
    array = np.asfortranarray(numbered(5, 3, 4, 4))
    for data in (saved(tmp_path, x=array), tmp_path / "x.npy"):
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(np.concatenate([feeds["x"] for feeds in read(data)]), array)


def test_strings_are_fed_as_objects(tmp_path: Path) -> None:
    words = np.array([["a", "bc"], ["def", ""]])
    entry = SignatureEntry("x", "str", (1, 2))
    for data in (saved(tmp_path, x=words), [{"x": words[:1]}, {"x": words[1:]}], iter([{"x": words[:1]}, {"x": words[1:]}])):
        found = [feeds["x"] for feeds in read(data, entry)]
        assert [each.tolist() for each in found] == [[["a", "bc"]], [["def", ""]]]
        assert {each.dtype for each in found} == {np.dtype(object)}


def test_labels_lie_beside_the_samples(tmp_path: Path) -> None:
    arrays = {"x": numbered(4, 3, 4, 4), "labels": numbered(4, dtype=np.int64)}
    given = [{"x": arrays["x"][i : i + 1], "labels": arrays["labels"][i : i + 1]} for i in range(4)]
    for data in (saved(tmp_path, **arrays), given, iter(given)):
        found = list(read(data).samples())
        assert [list(sample.feeds) for sample in found] == [["x"]] * 4
        assert [sample.labels["labels"].tolist() for sample in found] == [[0], [1], [2], [3]]


def views(items: list[dict[str, Any]]) -> Any:
    """An iterable that is no list, but can be walked again."""
    return dict(enumerate(items)).values()


MAKERS: list[Callable[[list[dict[str, Any]]], Any]] = [list, tuple, iter, views]


@pytest.mark.parametrize("make", MAKERS)
def test_iterables_give_what_a_program_is_fed(make: Callable[[list[dict[str, Any]]], Any]) -> None:
    data = make([{"x": np.full((2, 3, 4, 4), 5, np.float32)} for _ in range(3)])
    calibration = read(data)
    for _ in range(2):  # also one that can be walked only once
        assert [feeds["x"].shape for feeds in calibration] == [(2, 3, 4, 4)] * 3
        assert all((feeds["x"] == 5).all() for feeds in calibration)


def test_what_an_iterable_gives_may_be_overwritten_by_it() -> None:
    def reusing() -> Iterator[dict[str, Any]]:
        buffer = np.zeros((1, 3, 4, 4), np.float32)
        for number in range(3):
            buffer[:] = number
            yield {"x": buffer}

    assert [feeds["x"].max() for feeds in read(reusing())] == [0, 1, 2]


# What is refused


def refusal(data: Any, *inputs: SignatureEntry, **settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        read(data, *inputs, **settings)
    assert caught.value.exit_code == 2
    assert caught.value.hint, str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


GOOD = numbered(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": GOOD}, "calib.npz: the model has no input image (its inputs are x)"),
        ({"X": GOOD, "x": GOOD}, "calib.npz: the model has no input X"),
        ({"x": GOOD, "more": GOOD}, "calib.npz: the model has no input more"),
        ({"labels": np.zeros(2)}, "calib.npz: input x is missing (feed x: f32[batch,3,4,4])"),
        ({"x": np.float64(GOOD)}, "calib.npz: input x has element type f64, but the model wants f32"),
        ({"x": numbered(2, 4, 4, 3)}, "calib.npz: input x has 4 in dim 1 (shape [1, 4, 4, 3]), but the model wants 3"),
        ({"x": numbered(4, 4)}, "calib.npz: input x has rank 2 (shape [4, 4]), but the model wants rank 4"),
        ({"x": numbered(0, 3, 4, 4)}, "calib.npz: is empty: it holds no samples"),
        ({"x": GOOD * np.float32(np.nan)}, "sample 0 of calib.npz: input x holds NaN (first at [0, 0, 0, 0])"),
        (
            {"x": np.where(GOOD == 95, np.float32(np.inf), GOOD)},
            "sample 1 of calib.npz: input x holds Inf (first at [0, 2, 3, 3])",
        ),
        ({"x": np.array([None])}, "calib.npz[x]: holds pickled Python objects, which are never loaded"),
        ({}, "calib.npz: is empty: it holds no arrays"),
        ({"x": GOOD, "labels": np.zeros(3)}, "calib.npz[labels]: labels has shape [3], which does not go with 2 samples"),
    ],
    ids=str,
)
def test_a_wrong_archive_is_one_sentence(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    assert words in refusal(saved(tmp_path, **arrays)).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (7, "calibration data is a int"),
        ({"x": GOOD}, "calibration data is a dict"),
        ([], "the samples given: there are no samples"),
        (iter([]), "there are no samples: the iterable is empty"),
        ([GOOD], "sample 0: the feeds are a ndarray (feed a dict from input names to arrays)"),
        ([{"x": GOOD}, {"y": GOOD}], "sample 1: the model has no input y"),
        (iter([{"x": GOOD}, {}]), "sample 1: input x is missing"),
        ([{"x": GOOD}, {"x": GOOD[0]}], "sample 1: input x has rank 3 (shape [3, 4, 4]), but the model wants rank 4"),
        ([{"x": GOOD}, {"x": GOOD.astype(np.float16)}], "sample 1: input x has element type f16"),
        (iter([{"x": GOOD}, {"x": GOOD * np.float32(np.nan)}]), "sample 1: input x holds NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_iterable_is_one_sentence(data: Any, words: str) -> None:
    assert words in refusal(data)


def test_samples_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, ids=numbered(4, 6, dtype=np.int64), mask=np.ones((3, 6), np.int64))
    assert "input ids has 4 samples, and mask has 3" in refusal(path, *TEXT)
    path = saved(tmp_path, x=numbered(5, 7))
    assert "5 rows, which is no multiple of the 2" in refusal(path, SignatureEntry("x", "f32", (2, 7)))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    assert "no.npz: there is no such file" in refusal(tmp_path / "no.npz")
    wrong = tmp_path / "wrong.npz"
    wrong.write_bytes(b"not a zip file")
    assert "wrong.npz: is no .npz file of arrays, or it is damaged" in refusal(wrong)
    with zipfile.ZipFile(wrong, "w") as archive:
        archive.writestr("x.txt", "words")
    assert "wrong.npz: holds x.txt, which is no array" in refusal(wrong)
    with zipfile.ZipFile(wrong, "w") as archive:
        archive.writestr("x.npy", "words")
    assert "wrong.npz[x]: is no array, or it is damaged" in refusal(wrong)
    np.save(tmp_path / "cut.npy", GOOD)
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    assert "cut.npy: is cut short" in refusal(tmp_path / "cut.npy")


def test_no_memory_is_made_for_what_a_small_file_claims_to_hold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 4, 40000000), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    data = path.read_bytes()
    size = (len(header) + 10).to_bytes(4, "little")
    path.write_bytes(data.replace(size, b"\xff\xff\xff\x7f"))
    assert "bomb.npz[x]: is cut short" in refusal(path, SignatureEntry("x", "f32", (1, 3, 4, None)))


def test_damage_is_found_before_any_work(tmp_path: Path) -> None:
    path = saved(tmp_path, x=GOOD)
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF  # an element, which only the checksum tells
    path.write_bytes(data)
    assert "calib.npz[x]: is no array, or it is damaged" in refusal(path)


def test_folders_that_hold_no_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no array")
    assert "is empty: it holds no .npy or .npz files" in refusal(tmp_path)
    np.save(tmp_path / "0.npy", GOOD)
    assert "the model has 2 inputs, and .npy files do not say for which" in refusal(tmp_path, *TEXT)
    np.savez(tmp_path / "0.npz", x=GOOD)
    assert "holds both .npy and .npz files" in refusal(tmp_path)


def test_folders_by_input_hold_the_same_files(tmp_path: Path) -> None:
    for entry in TEXT:
        (tmp_path / entry.name).mkdir()
        np.save(tmp_path / entry.name / "0.npy", numbered(2, 6, dtype=np.int64))
    np.save(tmp_path / "ids" / "1.npy", numbered(2, 6, dtype=np.int64))
    assert "there is no mask/1.npy beside those of the other inputs" in refusal(tmp_path, *TEXT)


def test_the_place_of_what_is_wrong_is_the_file_of_the_sample(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", GOOD)
    np.save(tmp_path / "1.npy", np.float16(GOOD))
    assert refusal(tmp_path).startswith(f"{tmp_path / '1.npy'}: input x has element type f16")


def test_what_no_array_file_holds_comes_from_an_iterable(tmp_path: Path) -> None:
    entry = SignatureEntry("x", "f32", (2,), "sequence")
    assert "input x is a sequence, which no array file holds" in refusal(saved(tmp_path, x=GOOD), entry)
    item = {"x": [np.zeros(2, np.float32)]}
    assert len(read([item, item], entry)) == 2
    assert "input x is no array, and only arrays can be kept" in refusal(iter([item]), entry)
    assert "holds NaN" in refusal([{"x": [np.full(2, np.nan, np.float32)]}], entry)


def test_an_endless_iterable_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"x": GOOD}

    monkeypatch.setattr(sources, "MOST_KEPT", 4)
    assert "has given 4 samples and goes on" in refusal(endless())
    assert len(read(endless(), most=3)) == 3


def test_a_large_array_in_fortran_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FORTRAN", 100)
    assert "calib.npz[x]: is in Fortran order" in refusal(saved(tmp_path, x=np.asfortranarray(GOOD)))


# What is done with the samples


def test_samples_are_dealt_out_in_turns(tmp_path: Path) -> None:
    calibration = read(saved(tmp_path, x=np.arange(12, dtype=np.float32)), SignatureEntry("x", "f32", ()))
    kept, held = calibration.split()
    assert [float(feeds["x"]) for feeds in kept] == [0, 1, 3, 4, 6, 7, 9, 10]
    assert [float(feeds["x"]) for feeds in held] == [2, 5, 8, 11]
    assert [float(feeds["x"]) for feeds in kept.evenly(3)] == [0, 3, 7]
    assert [len(part) for part in calibration.evenly(2).split()] == [1, 1]
    assert [len(part) for part in calibration.evenly(8).split()] == [4, 4]
    many = read(saved(tmp_path, x=np.arange(50, dtype=np.float32)), SignatureEntry("x", "f32", ()))
    assert [len(part) for part in many.split()] == [40, 10]
    alone, again = calibration.evenly(1).split()
    assert not alone.warning
    assert "there is one sample" in again.warning
    assert [float(feeds["x"]) for feeds in again] == [0]


def test_progress_is_told_of_every_sample(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    read(saved(tmp_path, x=GOOD), progress=progress)
    read(iter([{"x": GOOD}]), progress=progress)
    assert told == [(1, 2), (2, 2), (1, 0)]


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
def test_one_sample_is_in_memory_at_a_time(tmp_path: Path, compressed: bool) -> None:
    data = np.zeros((64, 3, 128, 128), np.float32)  # 12 MiB, of which a sample is 192 KiB
    path = tmp_path / "calib.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=data)
    del data
    tracemalloc.start()
    try:
        calibration = read(path, SignatureEntry("x", "f32", (1, 3, 128, 128)))
        assert sum(feeds["x"].size for feeds in calibration) == 64 * 3 * 128 * 128
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_kept_samples_go_with_their_calibration() -> None:
    calibration = read(iter([{"x": GOOD}]))
    source = calibration.source
    assert isinstance(source, sources._Kept)  # pyright: ignore[reportPrivateUsage]
    folder = source._folder  # pyright: ignore[reportPrivateUsage]
    assert list(folder.iterdir())
    del calibration, source
    assert not folder.exists()


def test_every_name_of_labels_is_one_that_models_may_have_as_input(tmp_path: Path) -> None:
    for name in layouts.LABELS:
        found = read(saved(tmp_path, **{name: numbered(2, 5)}), SignatureEntry(name, "f32", (1, 5)))
        assert len(found) == 2
