"""What a program on a GPU does, as far as a machine without one shows it: ONNX Runtime's bindings work on its CPU alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from irc.runtime import (
    ArtifactError,
    Driver,
    EngineFailure,
    FeedError,
    Gpu,
    OnnxRuntimeOptions,
    SignatureEntry,
    onnxruntime_executor,
    onnxruntime_providers,
)
from irc.runtime.onnxruntime_gpu import BoundRuns, GraphRuns, bindable, why_no_graph
from irc.runtime.onnxruntime_providers import check_provider_options, prepare, with_options
from irc.runtime.onnxruntime_weights import in_place
from irc.runtime.signature import FeedChecker

CPU = ("cpu", 0)
GPU = ("CUDAExecutionProvider", "CPUExecutionProvider")


def entry(name: str, *shape: int | str, dtype: str = "f32", **others: Any) -> SignatureEntry:
    return SignatureEntry(name, dtype, shape, **others)


def session(*shape: int | str) -> Any:
    """`y = x + x`, and `z`, which is `x` itself."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xyz"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]), ir_version=10, opset_imports=[helper.make_opsetid("", 20)]
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def bound(*shape: int | str) -> BoundRuns:
    entries = [entry(name, *shape) for name in "xyz"]
    return BoundRuns(session(*shape), entries[:1], entries[1:], _never, _never, CPU)


def graph(*shape: int | str) -> GraphRuns:
    entries = [entry(name, *shape) for name in "xyz"]
    return GraphRuns(session(*shape), entries[:1], entries[1:], onnxruntime, CPU)


def _never(*arguments: Any) -> Any:
    raise AssertionError("NumPy has the type")


@pytest.mark.parametrize("make", [bound, graph])
def test_what_is_fed_is_run(make: Any) -> None:
    runs = make(2, 3)
    for index in range(3):
        y, z = runs.run({"x": np.full((2, 3), index, np.float32)})
        np.testing.assert_array_equal(y, np.full((2, 3), 2 * index))
        np.testing.assert_array_equal(z, np.full((2, 3), index))
    runs.close()


def test_a_feed_need_not_be_contiguous() -> None:
    fed = np.arange(6, dtype=np.float32).reshape(3, 2).T
    for runs in (bound(2, 3), graph(2, 3)):
        np.testing.assert_array_equal(runs.run({"x": fed})[0], 2 * fed)


def test_scalars_stay_scalars() -> None:
    for runs in (bound(), graph()):
        assert runs.run({"x": np.array(2, np.float32)})[0].shape == ()  # type: ignore[attr-defined]  # an array


def test_sizes_may_change_from_run_to_run_where_they_are_open() -> None:
    runs = bound("N")
    for size in (4, 2, 8, 0):
        assert runs.run({"x": np.ones(size, np.float32)})[0].shape == (size,)  # type: ignore[attr-defined]  # an array


@pytest.mark.parametrize("make", [bound, graph])
def test_results_share_no_memory_with_feeds_or_the_next_run(make: Any) -> None:
    runs, fed = make(4), np.ones(4, np.float32)
    y, z = runs.run({"x": fed})
    again = runs.run({"x": np.zeros(4, np.float32)})
    assert not any(np.shares_memory(a, b) for a in (y, z) for b in (fed, *again))
    np.testing.assert_array_equal(y, np.full(4, 2))
    np.testing.assert_array_equal(z, np.ones(4))


@pytest.mark.parametrize("make", [bound, graph])
def test_threads_do_not_get_each_others_answers(make: Any) -> None:
    runs = make(64)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: runs.run({"x": np.full(64, i, np.float32)})[0], range(200)))
    assert all((answer == 2 * index).all() for index, answer in enumerate(answers))


def test_element_types_that_numpy_lacks_are_made_and_fetched_by_the_executor() -> None:
    entries = [entry("x", 4, dtype="bf16"), entry("y", 4), entry("z", 4)]
    made: list[str] = []

    def make(name: str, value: Any) -> Any:
        made.append(name)
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(value, np.float32))

    runs = BoundRuns(session(4), entries[:1], entries[1:], make, _never, CPU)
    assert runs.run({"x": np.ones(4)})[0].tolist() == [2, 2, 2, 2]  # type: ignore[attr-defined]  # an array
    assert made == ["x"]


# CUDA graphs


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (entry("x", "N", 3), r"x: f32\[N,3\] has no fixed shape"),
        (SignatureEntry("x", "f32", None), "has no fixed shape"),
        (entry("x", 3, dtype="bf16"), "is no tensor of plain numbers"),
        (entry("x", 3, dtype="str"), "is no tensor of plain numbers"),
        (entry("x", 3, kind="sequence"), "is no tensor of plain numbers"),
        (entry("x", 3, optional=True), "may be left out"),
    ],
)
def test_what_cannot_stay_in_its_place_is_refused(wrong: SignatureEntry, reason: str) -> None:
    with pytest.raises(EngineFailure, match=f"cannot run as a CUDA graph: .*{reason}"):
        GraphRuns(None, [wrong], [], None)
    assert why_no_graph([entry("x", 3)], [entry("y")]) == ""


def test_an_input_that_is_read_on_the_cpu_is_refused() -> None:
    """A replay does not run what read it, so it would answer for the first one fed."""
    places = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="x"), SimpleNamespace(name="starts")],
        get_input_memory_infos=lambda: [SimpleNamespace(name="Cuda"), SimpleNamespace(name="Cpu")],
    )
    with pytest.raises(EngineFailure, match="input starts is read on the CPU"):
        GraphRuns(places, [entry("x", 3), entry("starts", 1, dtype="i64")], [], None)


def test_a_graph_is_captured_and_replayed_by_one_thread() -> None:
    import threading

    seen: set[int] = set()
    real = session(4)
    watched = SimpleNamespace(
        io_binding=real.io_binding,
        run_with_iobinding=lambda binding: (seen.add(threading.get_ident()), real.run_with_iobinding(binding)),
    )
    runs = GraphRuns(watched, [entry("x", 4)], [entry("y", 4), entry("z", 4)], onnxruntime, CPU)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: runs.run({"x": np.full(4, i, np.float32)}), range(40)))
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_what_fails_in_a_run_reaches_the_caller() -> None:
    runs = graph(4)
    with pytest.raises(Exception, match="x"):
        runs.run({})
    assert runs.run({"x": np.ones(4, np.float32)})[0].tolist() == [2, 2, 2, 2]  # type: ignore[attr-defined]  # an array


def test_text_and_sequences_stay_off_the_device() -> None:
    assert bindable([entry("x", 2)], [entry("y", 2, dtype="bf16")])
    assert not bindable([entry("x", 2, dtype="str")], [])
    assert not bindable([], [entry("y", 2, kind="sequence")])


# Provider options


def test_provider_options_survive_the_manifest() -> None:
    options = OnnxRuntimeOptions(providers=GPU, provider_options={"CUDAExecutionProvider.prefer_nhwc": "1"})
    assert OnnxRuntimeOptions.from_manifest(options.to_manifest()) == options
    assert "provider_options" not in OnnxRuntimeOptions().to_manifest()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"CUDAExecutionProvider.gpu_external_alloc": "1"}, "gpu_external_alloc is no option of CUDAExecutionProvider"),
        ({"CUDAExecutionProvider.use_tf32": "yes"}, "use_tf32 of CUDAExecutionProvider does not take the value 'yes'"),
        ({"TensorrtExecutionProvider.trt_fp16_enable": "0"}, "is of none of the providers"),
        ({"use_tf32": "0"}, "is of none of the providers"),
    ],
)
def test_what_is_no_provider_option_is_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        OnnxRuntimeOptions.from_manifest({"providers": GPU, "provider_options": options})


def test_libraries_and_files_are_no_options() -> None:
    """An artifact may come from anywhere: it names no library to load and no place to write to."""
    for name in ("trt_extra_plugin_lib_paths", "trt_engine_decryption_lib_path", "trt_engine_cache_path"):
        with pytest.raises(ArtifactError):
            check_provider_options(("TensorrtExecutionProvider",), {f"TensorrtExecutionProvider.{name}": "/tmp/x"})
    with pytest.raises(ArtifactError):
        check_provider_options(("TensorrtExecutionProvider",), {"TensorrtExecutionProvider.trt_engine_cache_enable": "1"})


def test_f32_is_f32_unless_a_program_asks_otherwise() -> None:
    assert with_options(GPU, {}) == [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})]
    asked = with_options(GPU, {"CUDAExecutionProvider.use_tf32": "1", "CUDAExecutionProvider.prefer_nhwc": "1"})
    assert asked[0] == ("CUDAExecutionProvider", {"use_tf32": "1", "prefer_nhwc": "1"})


def test_a_gpu_shares_no_weights_with_the_host() -> None:
    assert in_place({}, OnnxRuntimeOptions(providers=GPU, optimization="disable", shared_weights=("w",))) == frozenset()


# What has to be there


class FakeRuntime:
    def __init__(self, *providers: str) -> None:
        self.providers = providers
        self.loaded = 0

    def get_available_providers(self) -> list[str]:
        return list(self.providers)

    def preload_dlls(self) -> None:
        print("Failed to load libcufft.so.12")
        self.loaded += 1


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    driver = Driver("13.0", (Gpu("NVIDIA H100", (9, 0), 132, 80 << 30, 50 << 20),))
    monkeypatch.setattr(onnxruntime_providers, "cuda_driver", lambda: driver)
    monkeypatch.setattr(
        onnxruntime_providers, "cuda_libraries", lambda: {"libcublas.so.13": "the system", "libcufft.so.12": ""}
    )
    return monkeypatch


def test_without_a_gpu_the_reason_is_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_providers, "cuda_driver", lambda: Driver("", (), "there is no NVIDIA driver"))
    with pytest.raises(EngineFailure, match="the program runs on an NVIDIA GPU, but there is no NVIDIA driver") as caught:
        prepare(GPU, FakeRuntime(*GPU))
    assert caught.value.exit_code == 5


def test_without_kernels_for_gpus_the_package_is_named(one_gpu: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineFailure, match=r"has no CUDAExecutionProvider \(pip install 'irc-compiler\[cuda\]'\)"):
        prepare(GPU, FakeRuntime("CPUExecutionProvider"))


def test_without_libraries_they_are_named(one_gpu: pytest.MonkeyPatch) -> None:
    one_gpu.setattr(onnxruntime_providers, "cuda_libraries", lambda: {"libcublas.so.13": ""})
    with pytest.raises(EngineFailure, match=r"libraries of CUDA are missing: libcublas.so.13"):
        prepare(GPU, FakeRuntime(*GPU))


def test_libraries_are_loaded_quietly(one_gpu: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime(*GPU)
    prepare(GPU, runtime)
    assert runtime.loaded == 1
    assert capsys.readouterr().out == ""


def test_tensorrt_turns_tf32_off_for_want_of_an_option(one_gpu: pytest.MonkeyPatch) -> None:
    import os

    one_gpu.setenv("NVIDIA_TF32_OVERRIDE", "x")
    one_gpu.delenv("NVIDIA_TF32_OVERRIDE")
    one_gpu.setattr(onnxruntime_providers, "tensorrt_library", lambda: "")
    providers = ("TensorrtExecutionProvider", *GPU)
    with pytest.raises(EngineFailure, match="TensorRT 10 is not installed"):
        prepare(providers, FakeRuntime(*providers))
    one_gpu.setattr(onnxruntime_providers, "tensorrt_library", lambda: "the system")
    prepare(providers, FakeRuntime(*providers))
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_on_a_cpu_nothing_is_loaded() -> None:
    runtime = FakeRuntime("CPUExecutionProvider")
    prepare(("CPUExecutionProvider",), runtime)
    assert runtime.loaded == 0


def test_a_tensor_on_a_gpu_is_refused_with_a_way_out() -> None:
    class OnDevice:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it lies on a GPU")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(FeedError, match=r"cannot be taken over DLPack from a OnDevice .*bring it to the CPU"):
        FeedChecker([entry("x", 2)]).check({"x": OnDevice()})


def test_a_cuda_artifact_does_not_load_without_a_gpu(tmp_path: Path) -> None:
    from irc.lowering import CompileOptions, compile_model, find_target
    from irc.runtime import load
    from irc.tools.gpu_models import convolutions

    if find_target("cuda").is_here:
        pytest.skip("there is a GPU here")
    compiled = compile_model(convolutions(), CompileOptions("cuda:sm_90"))
    compiled.program.save(tmp_path / "m.irc")
    with pytest.raises(EngineFailure, match="the program runs on an NVIDIA GPU, but"):
        load(tmp_path / "m.irc")


# All of it together, with the CPU in the GPU's place


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(model: bytes, session_options: Any, options: OnnxRuntimeOptions, library: Any) -> Any:
        return library.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime_executor, "_session", made)
    monkeypatch.setattr(onnxruntime_executor, "BoundRuns", lambda *arguments: BoundRuns(*arguments[:-1], CPU))
    monkeypatch.setattr(onnxruntime_executor, "GraphRuns", lambda *arguments: GraphRuns(*arguments[:-1], CPU))


def on_gpu(model: Any, **provider_options: str) -> Any:
    from irc.lowering import CompileOptions, compile_model, find_engine, find_target
    from irc.runtime import Program

    found = {f"CUDAExecutionProvider.{name}": value for name, value in provider_options.items()}
    made = compile_model(model, CompileOptions())
    graph = made.graph
    files = find_engine("onnxruntime").lower(graph, find_target("cuda"), 2)
    options = OnnxRuntimeOptions(providers=GPU, provider_options=found).to_manifest()
    return Program.from_files(replace(made.program.manifest, engine_options=options), files.to_runtime())


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize("options", [{}, {"enable_cuda_graph": "1"}])
def test_a_program_on_a_device_answers_as_one_without(options: dict[str, str]) -> None:
    from irc.lowering import CompileOptions, compile_model
    from irc.tools.gpu_models import attention

    fed = {"x": np.random.default_rng(0).standard_normal((1, 16, 64)).astype(np.float32)}
    expected = compile_model(attention(), CompileOptions()).program.run(fed)["y"]
    with on_gpu(attention(), **options) as program:
        np.testing.assert_allclose(program.run(fed)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("cpu_as_gpu")
def test_a_program_on_a_device_takes_and_gives_bf16() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [3]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    fed = np.array([1, 2, 3], ml_dtypes.bfloat16)
    with on_gpu(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])) as program:
        answer = program.run({"x": fed})["y"]
    assert answer.dtype == fed.dtype
    np.testing.assert_array_equal(answer.astype(np.float32), [1, 2, 3])
    assert not np.shares_memory(answer, fed)


@pytest.mark.usefixtures("cpu_as_gpu")
def test_what_goes_wrong_on_a_device_is_one_sentence() -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    taken = [helper.make_tensor_value_info("x", 1, [6]), helper.make_tensor_value_info("s", TensorProto.INT64, [1])]
    model = helper.make_graph([node], "g", taken, [helper.make_tensor_value_info("y", 1, ["N"])])
    with (
        on_gpu(helper.make_model(model, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])) as program,
        pytest.raises(EngineFailure, match="ONNX Runtime could not run the program"),
    ):
        program.run({"x": np.zeros(6, np.float32), "s": np.array([4])})
