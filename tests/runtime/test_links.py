"""What parts share is in an artifact once, and is shared again when it is read; a table that lies is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.runtime import (
    ArtifactError,
    EngineFiles,
    Manifest,
    WeightView,
    open_artifact,
    write_artifact,
)
from irc.runtime.links import LINKS_FILE


def weight(value: float, count: int = 1024) -> WeightView:
    return WeightView("f32", (count,), memoryview(np.full(count, value, np.float32).tobytes()))


def files() -> EngineFiles:
    """Two parts with one large weight in common, a file in common, and something of each one's own."""
    common, data = weight(1), (b"a" * 5000,)
    return EngineFiles(
        {"plan.json": (b"{}",)},
        {},
        {
            "0": EngineFiles({"model": data}, {"w": common, "b": weight(2, 4)}),
            "1": EngineFiles({"model": data, "own": (b"x",)}, {"v": common, "b": weight(3)}),
        },
    )


def saved(what: EngineFiles, place: Path) -> EngineFiles:
    write_artifact(place, Manifest(engine="plan", inputs=(), outputs=()), what.to_chunks())
    return EngineFiles.from_artifact(open_artifact(place))


def content(what: EngineFiles) -> Any:
    parts = {name: content(part) for name, part in what.parts.items()}
    return {name: what.read(name) for name in what.files}, {n: bytes(w.data) for n, w in what.weights.items()}, parts


def test_what_is_the_same_memory_is_written_once(tmp_path: Path) -> None:
    before = files()
    after = saved(before, tmp_path / "p.irc")
    assert content(after) == content(before)
    chunks = before.to_chunks()
    assert sum(len(chunk) for name in chunks for chunk in chunks[name] if name != LINKS_FILE) < 5000 + 2 * 4096 + 1000
    assert after.parts["1"].weights["v"].data.obj is after.parts["0"].weights["w"].data.obj
    first, second = (np.frombuffer(after.parts[p].weights[n].data, np.uint8) for p, n in (("0", "w"), ("1", "v")))
    assert first.ctypes.data == second.ctypes.data


def test_saving_again_makes_the_same_bytes(tmp_path: Path) -> None:
    saved(saved(files(), tmp_path / "p.irc"), tmp_path / "q.irc")
    assert (tmp_path / "p.irc").read_bytes() == (tmp_path / "q.irc").read_bytes()


def test_without_anything_in_common_there_is_no_table() -> None:
    parts = {"0": EngineFiles({}, {"w": weight(1)}), "1": EngineFiles({}, {"w": weight(1)})}
    assert LINKS_FILE not in EngineFiles({}, {}, parts).to_chunks()


def test_what_is_small_or_of_another_shape_is_no_link() -> None:
    small, large = weight(1, 4), weight(1)
    other = WeightView("f32", (32, 32), large.data)
    parts = {"0": EngineFiles({}, {"s": small, "l": large}), "1": EngineFiles({}, {"s": small, "l": other})}
    assert LINKS_FILE not in EngineFiles({}, {}, parts).to_chunks()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("weights/1/v", ["0", "none"], "says that the weight v of part 1 is none of part 0"),
        ("weights/1/b", ["0", "w"], "has a link for the weight b of part 1, which is there itself"),
        ("weights/1/v", ["1", "v"], "says that the weight v of part 1 is v of part 1"),
        ("files/1/model", ["0"], "model should be a part and a name"),
        ("files", {"1": []}, "should be an object"),
        ("more", 1, "unknown key more"),
    ],
)
def test_a_table_that_lies_is_refused(path: str, value: object, reason: str, tmp_path: Path) -> None:
    chunks = files().to_chunks()
    table = json.loads(b"".join(chunks[LINKS_FILE]))
    *outer, last = path.split("/")
    place = table
    for name in outer:
        place = place[name]
    place[last] = value
    changed = {**chunks, LINKS_FILE: (json.dumps(table).encode(),)}
    write_artifact(tmp_path / "p.irc", Manifest(engine="plan", inputs=(), outputs=()), changed)
    with pytest.raises(ArtifactError, match=reason):
        EngineFiles.from_artifact(open_artifact(tmp_path / "p.irc"))
