"""The way from ops to CUDA C, piece by piece: models of regions, their code, what becomes of its text, and NVRTC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from irc.ir import capture
from irc.lowering import find_target
from irc.lowering.tvm import making
from irc.lowering.tvm.cuda import adapter, building, nvrtc, worker
from irc.lowering.tvm.cuda.code import Buffer, Code, Launch
from irc.lowering.tvm.cuda.models import region_model
from irc.lowering.tvm.cuda.source import PRELUDE, cleaned, whole
from irc.runtime import ArtifactError, EngineFailure, parse_object

from ...models import node
from ..programs import of
from .cases import normal
from .emulating import needs_emulator, needs_nvrtc

GENERATED = """
#include <cuda/std/cstdint>
extern "C" __global__ void __launch_bounds__(32) k(float* __restrict__ y_ptr, float* __restrict__ x_ptr);
extern "C" __global__ void __launch_bounds__(32) k(float* __restrict__ y_ptr, float* __restrict__ x_ptr) {
  y_ptr[0] = -0x1.fffffep+127f/*-3.402823e+38*/;
  y_ptr[0] = max(y_ptr[0], __expf(x_ptr[0]));
  y_ptr[1] = fmaxf(__logf(x_ptr[0]), tanhf(x_ptr[1]));
}
"""


def test_kernels_are_kept_and_the_prelude_is_ours() -> None:
    kernels = cleaned(GENERATED)
    assert kernels.count("__global__") == 1
    assert "#include" not in whole([kernels])
    assert "y_ptr[0] = -CUDART_INF_F;" in kernels
    assert "irc_max(y_ptr[0], expf(x_ptr[0]))" in kernels
    assert "fmaxf(logf(x_ptr[0]), tanhf(x_ptr[1]))" in kernels
    assert whole([kernels]).startswith(PRELUDE)


def model(width: int = 8, seed: int = 0) -> bytes:
    nodes = [node("MatMul", ["x", "w"], ["m"], name=f"layer{seed}"), node("Relu", ["m"], ["y"])]
    message = of(nodes, {"x": normal(4, 6)}, ["y"], {"w": normal(6, width, seed=seed)})
    return message.SerializeToString()


def region(content: bytes) -> bytes:
    return region_model([op for op in capture(content) if not op.is_constant]).content


def test_layers_that_differ_in_weights_and_names_alone_have_one_kernel() -> None:
    assert region(model()) == region(model(seed=1))
    assert region(model()) != region(model(9))


def test_shapes_are_in_the_model_and_weights_are_inputs() -> None:
    nodes = [node("Reshape", ["x", "s"], ["r"]), node("Add", ["r", "b"], ["a"]), node("Mul", ["a", "two"], ["y"])]
    weights = {"s": np.array([3, 2]), "b": normal(2), "two": np.array(2, np.float32)}
    found = region_model([op for op in capture(of(nodes, {"x": normal(6)}, ["y"], weights)) if not op.is_constant])
    message = onnx.load_model_from_string(found.content)
    assert [each.name for each in message.graph.input] == ["x0", "x1"]
    assert len(message.graph.initializer) == 2
    assert [value.constant is None for value in found.inputs] == [True, False]
    assert not any(each.metadata_props or each.name for each in message.graph.node)


def test_code_survives_its_text() -> None:
    code = Code("kernels", (Buffer(4), Buffer(2, b"\0\xff")), (Launch("k", (1, 2, 3), (4, 5, 6), (1, 0)),), (1,))
    assert Code.from_bytes(code.to_bytes()) == code
    with pytest.raises(ArtifactError, match="six numbers"):
        Code.from_bytes(code.to_bytes().replace(b"        6\n", b"        6,\n 7\n"))


@needs_emulator
def test_code_says_how_its_kernels_are_launched() -> None:
    code = adapter.device_code(region(model()), "sm_80", "irc_test_")
    (launch,) = code.launches
    assert launch.kernel == "irc_test_0"
    assert len(launch.arguments) == 3
    assert launch.block[0] * launch.block[1] * launch.block[2] <= 1024
    assert [buffer.byte_count for buffer in code.buffers] == [4 * 6 * 4, 6 * 8 * 4, 4 * 8 * 4]
    assert code.outputs == (2,)
    assert len(code.source) < 20_000  # the compiler unrolls loops, not TVM


@needs_emulator
def test_what_tvm_does_not_take_is_named() -> None:
    message = of([node("Sign", ["x"], ["a"]), node("Celu", ["a"], ["y"])], {"x": normal(3)}, ["y"])
    with pytest.raises(ValueError, match="TVM takes no Sign, Celu: "):
        adapter.device_code(message.SerializeToString(), "sm_80", "k")


@needs_emulator
def test_code_is_made_in_another_process_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    content = region(model())
    first = building.codes([content, content], "sm_80", 2)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(making, "Worker", None)  # the second time none is started
    assert building.codes([content], "sm_80", 2) == first


@needs_emulator
def test_what_a_process_cannot_make_is_an_engine_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    message = of([node("Celu", ["x"], ["y"])], {"x": normal(3)}, ["y"])
    with pytest.raises(EngineFailure, match="TVM takes no Celu"):
        building.codes([message.SerializeToString()], "sm_80", 1)
    assert not list(tmp_path.iterdir())


# NVRTC


def test_a_process_has_a_source_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "image", lambda source, name: f"{source} for {name}".encode())
    asked = parse_object(b'{"source": "kernels"}', "the task")
    assert worker.made_of("irc_test", asked, "sm_80") == b"kernels for sm_80"


def test_architectures_are_those_of_targets() -> None:
    assert nvrtc.architecture(find_target("cuda:sm_90").compute_capability) == "sm_90"
    assert nvrtc.architecture(None) == "compute_75"
    assert nvrtc.image_file("sm_90") == "program.cubin"
    assert nvrtc.image_file("compute_75") == "program.ptx"


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120", "compute_75"])
def test_nvrtc_compiles_what_tvm_writes(architecture: str) -> None:
    code = adapter.device_code(region(model()), "sm_80", "irc_test_")
    image = nvrtc.image(whole([code.source]), architecture)
    assert image.startswith(b"//" if architecture.startswith("compute") else b"\x7fELF")
    assert b"irc_test_0" in image


@needs_nvrtc
def test_what_nvrtc_refuses_is_said_in_its_words() -> None:
    with pytest.raises(ValueError, match=r"NVRTC refuses the kernels: .*error.*nothing"):
        nvrtc.image('extern "C" __global__ void k() { nothing(); }', "sm_80")


@needs_nvrtc
@needs_emulator
def test_every_op_compiles_for_a_gpu() -> None:
    from .test_ops import GROUPS

    kernels: list[str] = []
    for name, make in GROUPS.items():
        graph = capture(make().message.SerializeToString())
        for number, op in enumerate(each for each in graph if not each.is_constant):
            kernels.append(adapter.device_code(region_model([op]).content, "sm_80", f"irc_{name}_{number}_").source)
    assert nvrtc.image(whole(kernels), "sm_80").startswith(b"\x7fELF")
