"""Tensor bytes beside the model: found where they are, mapped and never copied, and refused when they lie elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from irc.ir import IrcError, capture, to_model

from .models import BOOL, F32, body, check_signature, const, info, model, node, normal, run, same

DATA = normal(4, 8)


def outside(name: str, location: str, dims: tuple[int, ...] = (4, 8), **entries: object) -> TensorProto:
    """A f32 tensor whose bytes are said to be at a location; `offset`, `length` and others as given."""
    tensor = TensorProto(name=name, data_type=F32, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def initializer(tensor: TensorProto) -> ModelProto:
    return model([node("Add", ["x", "w"], ["y"])], [info("x", F32, [4, 8])], ["y"], [tensor])


def constant(tensor: TensorProto) -> ModelProto:
    return model([node("Constant", [], ["y"], value=tensor)], [], ["y"])


def default(tensor: TensorProto) -> ModelProto:
    return model([node("Neg", ["w"], ["y"])], [info("w", F32, [4, 8])], ["y"], [tensor])


def in_a_branch(tensor: TensorProto) -> ModelProto:
    then = body("t", [], [], [info("w", F32, [4, 8])], [tensor])
    otherwise = body("e", [node("Identity", ["x"], ["e"])], [], [info("e", F32, [4, 8])])
    choice = node("If", ["k"], ["y"], then_branch=then, else_branch=otherwise)
    return model([choice], [info("x", F32, [4, 8]), info("k", BOOL, [])], ["y"])


def in_a_function(tensor: TensorProto) -> ModelProto:
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("f", "Get", [], ["o"], [node("Constant", [], ["o"], value=tensor)], imports)
    return model([node("Get", [], ["y"], domain="f")], [], ["y"], functions=[function], domains={"f": 1})


def sparse_values(tensor: TensorProto) -> ModelProto:
    if list(tensor.dims) == [4, 8]:
        tensor.dims[:] = [32]
    sparse = onnx.SparseTensorProto(values=tensor, indices=const("i", np.arange(32)), dims=[64])
    return model([node("Identity", ["w"], ["y"])], [], ["y"], sparse_initializer=[sparse])


def sparse_attribute(tensor: TensorProto) -> ModelProto:
    made = node("Constant", [], ["y"])
    sparse = sparse_values(tensor).graph.sparse_initializer[0]
    made.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(sparse)
    return model([made], [], ["y"])


PLACES: list[Callable[[TensorProto], ModelProto]] = [
    initializer,
    constant,
    default,
    in_a_branch,
    in_a_function,
    sparse_values,
    sparse_attribute,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with its data, and a secret outside of it that must not be read."""
    inside = tmp_path / "model"
    (inside / "parts").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(DATA.tobytes())
    (inside / "data").write_bytes(DATA.tobytes())
    (inside / "parts" / "data").write_bytes(b"\0" * 64 + DATA.tobytes())
    (inside / "short").write_bytes(DATA.tobytes()[:-1])
    (inside / "empty").touch()
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "inner_link").symlink_to("data")
    (inside / "folder_link").symlink_to(tmp_path)
    os.link(tmp_path / "secret", inside / "hard_link")
    os.mkfifo(inside / "pipe")
    return inside


def save(message: ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(message.SerializeToString())
    return path


# Bad places

REFUSED = {
    "up": (outside("w", "../secret"), "is not a relative path"),
    "up in the middle": (outside("w", "parts/../../secret"), "is not a relative path"),
    "absolute": (outside("w", "/etc/passwd"), "is not a relative path"),
    "backslashes": (outside("w", "..\\secret"), "is not a relative path"),
    "a drive": (outside("w", "C:data"), "is not a relative path"),
    "NUL": (outside("w", "data\0.txt"), "is not a relative path"),
    "no location": (outside("w", ""), "is not a relative path"),
    "the folder itself": (outside("w", "./"), "names no file"),
    "a folder": (outside("w", "parts"), "is not a regular file"),
    "a pipe": (outside("w", "pipe"), "is not a regular file"),
    "a symbolic link": (outside("w", "link"), "cannot be opened"),
    "a symbolic link inside": (outside("w", "inner_link"), "cannot be opened"),
    "a linked folder": (outside("w", "folder_link/secret"), "cannot be opened"),
    "a hard link": (outside("w", "hard_link"), "hard link"),
    "a file that is not there": (outside("w", "absent"), "does not exist"),
    "a file as a folder": (outside("w", "data/data"), "cannot be opened"),
    "a name too long": (outside("w", "a" * 5000), "cannot be opened"),
    "a file too short": (outside("w", "short"), "lies outside 'short' of 127 bytes"),
    "an empty file": (outside("w", "empty"), "lies outside 'empty' of 0 bytes"),
    "an offset below zero": (outside("w", "data", offset=-4), "no number of bytes"),
    "an offset behind the end": (outside("w", "data", offset=2**62), "lies outside"),
    "an offset of many digits": (outside("w", "data", offset="9" * 5000), "no number of bytes"),
    "an offset in words": (outside("w", "data", offset="four"), "no number of bytes"),
    "a length below zero": (outside("w", "data", length=-128), "no number of bytes"),
    "a length too short": (outside("w", "data", length=127), "has 127 bytes but dtype and dims ask for 128"),
    "a length too long": (outside("w", "data", length=2**62), "ask for 128"),
    "dims that overflow": (outside("w", "data", (2**62, 2**62)), "lies outside"),
    "a dim below zero": (outside("w", "data", (-4, 8)), "negative dim"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", REFUSED)
def test_refused_wherever_the_tensor_stands(case: str, place: Callable[[TensorProto], ModelProto], folder: Path) -> None:
    tensor, sentence = REFUSED[case]
    copy = TensorProto()
    copy.CopyFrom(tensor)
    with pytest.raises(IrcError, match=sentence) as caught:
        capture(save(place(copy), folder))
    assert caught.value.exit_code == 3


def test_strings_are_never_outside(folder: Path) -> None:
    tensor = outside("w", "data")
    tensor.data_type = TensorProto.STRING
    with pytest.raises(IrcError, match="strings cannot be external data"):
        capture(save(constant(tensor), folder))


def test_a_model_from_bytes_has_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    message = initializer(outside("w", "data"))
    for given in (message, message.SerializeToString()):
        with pytest.raises(IrcError, match="came without a folder"):
            capture(given)


# Good places


@pytest.mark.parametrize("place", PLACES)
def test_read_wherever_the_tensor_stands(place: Callable[[TensorProto], ModelProto], folder: Path) -> None:
    inline = TensorProto(name="w", data_type=F32, dims=(4, 8), raw_data=DATA.tobytes())
    wanted, got = (to_model(capture(save(place(t), folder))) for t in (inline, outside("w", "data")))
    wanted.graph.name = got.graph.name
    assert got.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


def test_offsets_and_several_files(folder: Path) -> None:
    tensors = [
        outside("a", "data", (2, 8), length=64),
        outside("b", "data", (2, 8), offset=64),
        outside("c", "parts/data", (4, 8), offset=64, length=128, checksum="0" * 40),
        outside("d", "./parts//data", (0, 8), offset=192),
    ]
    nodes = [
        node("Concat", ["a", "b", "d"], ["ab"], axis=0),
        node("Sub", ["ab", "c"], ["z"]),
        node("Add", ["x", "z"], ["y"]),
    ]
    message = model(nodes, [info("x", F32, [4, 8])], [info("y", F32, [4, 8])], tensors)
    again = to_model(capture(save(message, folder)))
    check_signature(message, again)
    feeds = {"x": normal(4, 8, seed=1)}
    same(run(again, feeds), [feeds["x"]])


def test_unused_data_need_not_exist(folder: Path) -> None:
    message = model([node("Neg", ["x"], ["y"])], [info("x", F32, [2])], ["y"], [outside("w", "absent")])
    assert len(capture(save(message, folder))) == 1


# VmHWM and not ru_maxrss: a child starts with the ru_maxrss of the process that forked it.
MEASURE = """
import sys
from irc.ir import capture, verify
graph = capture(sys.argv[1])
verify(graph)
sizes = [op.value.byte_count for op in graph.walk() if op.is_constant]
last = bytes(next(op.value for op in graph.walk() if op.is_constant).data[-4:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(sum(sizes), last.hex(), int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.parametrize("outside_of_the_file", [True, False])
def test_weights_beyond_2_gib_stay_on_disk(outside_of_the_file: bool, tmp_path: Path) -> None:
    """Three GiB of holes: mapped, and never read."""
    size = 3 * 2**30
    path = tmp_path / "model.onnx"
    if outside_of_the_file:
        with (tmp_path / "data").open("wb") as file:
            file.truncate(size)
        tensor = outside("w", "data", (size // 4,))
        path.write_bytes(model([node("Add", ["x", "w"], ["y"])], [info("x", F32, [1])], ["y"], [tensor]).SerializeToString())
    else:
        write_with_a_hole(path, size)
    code = [sys.executable, "-c", MEASURE, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(code, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    total, last, megabytes = done.stdout.split()
    assert int(total) == size
    assert last == "00000000"
    assert int(megabytes) < 400


def write_with_a_hole(path: Path, size: int) -> None:
    """A model file whose only weight is a hole of `size` bytes in its middle; no protobuf library can write it."""

    def prefix(number: int, length: int) -> bytes:
        encoded = bytearray([number << 3 | 2])
        while length > 127:
            encoded.append(length & 127 | 128)
            length >>= 7
        return bytes([*encoded, length])

    shell = model([node("Add", ["x", "w"], ["y"])], [info("x", F32, [1])], ["y"])
    graph, tensor = shell.graph.SerializeToString(), TensorProto(name="w", data_type=F32, dims=[size // 4])
    head = tensor.SerializeToString() + prefix(9, size)
    weight = prefix(5, len(head) + size) + head
    shell.ClearField("graph")
    with path.open("wb") as file:
        file.write(shell.SerializeToString() + prefix(7, len(graph) + len(weight) + size) + graph + weight)
        file.truncate(file.tell() + size)
