"""Targets: names, files, what is here and what is not, and which engines serve them."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from irc.ir import UnsupportedError, UsageError
from irc.lowering import ENGINES, FAMILIES, TARGETS, CompileOptions, Kind, Target, compile_model, find_engine, find_target
from irc.lowering import targets as lookup
from irc.lowering.onnxruntime import read_package
from irc.runtime import Caches, Driver, Gpu, Limits, Measured, Processor

from .models import mlp

GENOA = Processor(
    "x86-64", "AMD EPYC 9654", ("sse2", "sse4.2", "avx", "f16c", "fma", "avx2"), 8, Caches(32 << 10, 1 << 20, 1 << 25)
)
HOPPER = Driver("13.0", (Gpu("NVIDIA H100", (9, 0), 132, 80 << 30, 50 << 20),))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with eight cores with AVX2 and an H100."""
    monkeypatch.setattr(lookup, "processor", lambda: GENOA)
    monkeypatch.setattr(lookup, "cuda_driver", lambda: HOPPER)
    monkeypatch.setattr(lookup, "measured_limits", lambda: Measured(Limits(900.0, 60.0)))
    return monkeypatch


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find_target(text)
    return caught.value


# Names


@pytest.mark.parametrize("name", TARGETS)
def test_every_name_is_a_target(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    assert target.is_here == (not target.not_here)
    assert (target.kind is Kind.CUDA) == name.startswith("cuda") == (target.architecture == "nvidia")
    assert set(FAMILIES) == {each.partition(":")[0] for each in TARGETS}


def test_this_machine_is_a_target() -> None:
    cpu = find_target("cpu")
    assert cpu.is_here
    assert cpu.cores is not None
    assert cpu.cores >= 1
    assert cpu.features


def test_this_machine_in_full(machine: pytest.MonkeyPatch) -> None:
    assert find_target("cpu") == Target(
        name="cpu",
        kind=Kind.CPU,
        architecture="x86-64",
        processor="AMD EPYC 9654",
        features=GENOA.features,
        cores=8,
        caches=GENOA.caches,
        limits=Limits(900.0, 60.0),
    )


def test_the_gpu_here_in_full(machine: pytest.MonkeyPatch) -> None:
    cuda = find_target("cuda")
    assert cuda.is_here
    assert (cuda.processor, cuda.compute_capability, cuda.multiprocessors) == ("NVIDIA H100", (9, 0), 132)
    assert (cuda.memory, cuda.caches) == (80 << 30, Caches(l2=50 << 20))
    assert cuda.features == ("tensor-f16", "tensor-i8", "tensor-bf16", "tensor-tf32", "tensor-f8")


def test_a_machine_without_a_gpu_still_has_the_target(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(lookup, "cuda_driver", lambda: Driver("", (), "there is no NVIDIA driver"))
    for name in ("cuda", "cuda:sm_90"):
        assert find_target(name).not_here == "there is no NVIDIA driver"
    assert find_target("cuda").compute_capability is None
    assert find_target("cuda:sm_90").compute_capability == (9, 0)
    assert find_target("cuda:sm_90").multiprocessors is None


def test_a_processor_by_name(machine: pytest.MonkeyPatch) -> None:
    target = find_target("cpu:znver4")
    assert (target.architecture, target.processor, target.cores) == ("x86-64", "znver4", None)
    assert target.features[-2:] == ("avx512vnni", "avx512bf16")
    assert target.caches == Caches(32 << 10, 1 << 20, None)
    assert target.limits is None


def test_an_arm_processor_has_two_names() -> None:
    one, other = find_target("cpu:neoverse-n1"), find_target("arm64:neoverse-n1")
    assert one.architecture == other.architecture == "arm64"
    assert one.features == other.features == ("neon", "fullfp16", "dotprod")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cpu:avx2", ""),
        ("cpu:haswell", ""),
        ("cpu:avx512", "this machine has no avx512f, avx512bw, avx512cd, avx512dq, avx512vl"),
        ("cpu:alderlake", "this machine has no avxvnni"),
        ("arm64", "this machine is x86-64, not arm64"),
        ("cpu:apple-m1", "this machine is x86-64, not arm64"),
        ("cuda:sm_90", ""),
        ("cuda:sm_80", "the GPU here, NVIDIA H100, is sm_90"),
        ("cuda:sm_100", "the GPU here, NVIDIA H100, is sm_90"),
    ],
)
def test_what_is_here(machine: pytest.MonkeyPatch, name: str, reason: str) -> None:
    assert find_target(name).not_here == reason


def test_levels_contain_each_other() -> None:
    levels = [set(find_target(f"cpu:{name}").features) for name in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "amx")]
    assert all(one < other for one, other in pairwise(levels))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cpuu", "did you mean cpu?"),
        ("gpu", "there are cpu, arm64, cuda and more; `irc targets` lists them"),
        ("toaster", "there are cpu, arm64, cuda and more; `irc targets` lists them"),
        ("", "there are cpu, arm64, cuda and more; `irc targets` lists them"),
        ("cpu:znver44", "did you mean cpu:znver4?"),
        ("cuda:sm_91", "did you mean cuda:sm_90?"),
        ("znver4", "did you mean cpu:znver4?"),
        ("cpu:", "did you mean cpu?"),
        ("cpu:i386", "cpu: goes with x86-64, x86-64-v2, "),
        ("arm64:znver4", "arm64: goes with cortex-a53, "),
        ("cuda:90", "cuda: goes with sm_70, "),
        ("./missing.toml", "--target takes a name of `irc targets`, or a TOML file"),
    ],
)
def test_an_unknown_target(text: str, hint: str) -> None:
    assert (refusal(text).hint or "").startswith(hint)


def test_nothing_is_asked_of_the_machine_before_a_target_is() -> None:
    script = (
        "import sys, irc.lowering; from irc.runtime import machine, gpu\n"
        "assert not machine.processor.cache_info().misses + gpu.cuda_driver.cache_info().misses\n"
        "irc.lowering.find_target('cpu')\n"
        "assert machine.processor.cache_info().misses and not gpu.cuda_driver.cache_info().misses"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Files


def described(folder: Path, text: str) -> Target:
    path = folder / "edge.toml"
    path.write_text(text)
    return find_target(str(path))


def test_a_processor_in_a_file(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = described(
        tmp_path,
        'kind = "cpu"\narchitecture = "x86-64"\nprocessor = "Edge 9"\nfeatures = ["avx2", "fma"]\ncores = 4\n'
        '[caches]\nl1d = "32 KiB"\nl2 = 1048576\n[limits]\ngflops = 500\nbandwidth = 80.5\n',
    )
    assert target == Target(
        name=str(tmp_path / "edge.toml"),
        kind=Kind.CPU,
        architecture="x86-64",
        processor="Edge 9",
        features=("sse2", "fma", "avx2"),
        cores=4,
        caches=Caches(32 << 10, 1 << 20),
        limits=Limits(500.0, 80.5),
    )


def test_a_gpu_in_a_file(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = described(tmp_path, 'kind = "cuda"\ncompute-capability = "9.0"\nmultiprocessors = 114\nmemory = "80 GiB"\n')
    assert target.is_here
    assert (target.compute_capability, target.multiprocessors, target.memory) == ((9, 0), 114, 80 << 30)
    assert "tensor-f8" in target.features


def test_a_file_may_start_from_a_target(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = described(tmp_path, 'like = "cpu:haswell"\ncores = 16\n[caches]\nl3 = "20 MiB"\n')
    assert target.features == find_target("cpu:haswell").features
    assert target.caches == Caches(32 << 10, 256 << 10, 20 << 20)
    assert target.not_here == "this machine has 8 cores for this process, not 16"
    assert described(tmp_path, 'like = "cpu"\n').limits == Limits(900.0, 60.0)
    assert described(tmp_path, 'like = "cuda"\nmultiprocessors = 66').processor == "NVIDIA H100"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has neither kind nor like"),
        ("kind = ", "is no TOML"),
        ('kind = "cpu"', "has no architecture"),
        ('kind = "tpu"', "kind should be one of cpu, cuda, not 'tpu'"),
        ("kind = 3", "kind should be one of cpu, cuda, not 3"),
        ('kind = "cpu"\narchitecture = "mips"', "architecture should be one of x86-64, arm64, not 'mips'"),
        ('like = "cpu:avx3"', "like: there is no target 'cpu:avx3'"),
        ('like = "other.toml"', "like: there is no target 'other.toml'"),
        ('like = "cpu"\nkind = "cuda"', "kind is cuda, but cpu is cpu"),
        ('like = "cpu:avx2"\narchitecture = "arm64"', "architecture is arm64, but cpu:avx2 is x86-64"),
        ('like = "cpu:avx2"\ncore = 3', "has the unknown key core"),
        ('like = "cpu:avx2"\ncompute-capability = "9.0"', "has the unknown key compute-capability"),
        ('like = "cuda"\ncores = 3', "has the unknown key cores"),
        ('like = "cpu:avx2"\ncores = 0', "cores should be a whole number from 1 on, not 0"),
        ('like = "cpu:avx2"\ncores = true', "cores should be a whole number from 1 on, not true"),
        ('like = "cpu:avx2"\nfeatures = "avx2"', "features should be a list of sse2, "),
        ('like = "cpu:avx2"\nfeatures = [["avx2"]]', "features should be a list of sse2, "),
        ('like = "cpu:avx2"\nfeatures = ["avx3"]', "features should be a list of sse2, "),
        ('like = "cpu:avx2"\ncaches = 3', "caches should be a table, not 3"),
        ('like = "cpu:avx2"\n[caches]\nl4 = 3', "has the unknown key caches.l4"),
        ('like = "cpu:avx2"\n[caches]\nl3 = "20 MB"', "caches.l3 should be a number of bytes"),
        ('like = "cpu:avx2"\n[caches]\nl3 = -1', "caches.l3 should be a number of bytes"),
        ('like = "cpu:avx2"\n[caches]\nl3 = inf', "caches.l3 should be a number of bytes"),
        ('like = "cpu:avx2"\n[limits]\ngflops = nan', "limits.gflops should be a number above 0, not nan"),
        ('like = "cpu:avx2"\n[limits]\nbandwidth = "fast"', "limits.bandwidth should be a number above 0, not 'fast'"),
        ('kind = "cuda"\ncompute-capability = 9.0', 'compute-capability should be a text such as "9.0", not 9.0'),
        ("a." * 5000 + "b = 1", "has neither kind nor like"),
    ],
)
def test_a_mistake_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    error = refusal(str(path))
    assert message in error.message
    assert error.location == str(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.toml").mkdir()
    assert "is no TOML" in refusal(str(tmp_path / "binary.toml")).message
    assert "cannot be read: is a directory" in refusal(str(tmp_path / "folder.toml")).message


# Engines


def test_onnxruntime_serves_all_and_openvino_processors(machine: pytest.MonkeyPatch) -> None:
    for engine in ENGINES:
        if not engine.version:
            assert not any(engine.serves(find_target(name)) for name in FAMILIES)
            continue
        assert [bool(engine.serves(find_target(name))) for name in FAMILIES] == [True, True, engine.name == "onnxruntime"]
        assert engine.runs(find_target("cpu"))
        assert engine.runs(find_target("arm64")).reason == "this machine is x86-64, not arm64"


def test_a_gpu_needs_the_package_for_it(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = find_engine("onnxruntime")
    machine.setattr(
        "irc.lowering.onnxruntime.engine.package", lambda: read_package(package_folder(tmp_path, "onnxruntime"), ())
    )
    assert "kernels for NVIDIA GPUs are missing" in engine.runs(find_target("cuda")).reason
    machine.setattr(
        "irc.lowering.onnxruntime.engine.package", lambda: read_package(package_folder(tmp_path, "onnxruntime-gpu"), ())
    )
    assert engine.runs(find_target("cuda"))


def test_on_a_gpu_the_processor_takes_what_is_left() -> None:
    for level in range(4):
        for setting in find_engine("onnxruntime").settings(level, find_target("cuda")):
            assert setting["providers"] == ("CUDAExecutionProvider", "CPUExecutionProvider")
        for setting in find_engine("onnxruntime").settings(level, find_target("cpu")):
            assert setting["providers"] == ("CPUExecutionProvider",)


def test_an_engine_that_does_not_serve_the_target_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="openvino does not serve the target cuda") as caught:
        compile_model(mlp(), CompileOptions("cuda", engine="openvino"))
    assert caught.value.exit_code == 4


def test_a_target_that_runs_here_is_compiled_for() -> None:
    with compile_model(
        mlp(), CompileOptions("cpu:x86-64" if find_target("cpu:x86-64").is_here else "arm64")
    ).program as program:
        assert program.manifest.target in ("cpu:x86-64", "arm64")


def package_folder(folder: Path, name: str) -> Path:
    """What pip leaves of ONNX Runtime, as far as it says whose it is."""
    (folder / "capi").mkdir(exist_ok=True)
    (folder / "capi" / "build_and_package_info.py").write_text(f"package_name = '{name}'\n__version__ = '1.31.1'\n")
    return folder


def test_the_package_installed_last_owns_the_folder(tmp_path: Path) -> None:
    both = ("onnxruntime", "onnxruntime-gpu")
    found = read_package(package_folder(tmp_path, "onnxruntime"), both)
    assert (found.name, found.version, found.others) == ("onnxruntime", "1.31.1", ("onnxruntime-gpu",))
    found = read_package(package_folder(tmp_path, "onnxruntime-gpu"), both)
    assert (found.name, found.others) == ("onnxruntime-gpu", ("onnxruntime",))
    assert read_package(tmp_path / "missing", both).version == ""


def test_some_processors_multiply_bf16() -> None:
    names = ("cpu:x86-64-v3", "cpu:avx512vnni", "cpu:znver4", "cpu:sapphirerapids", "arm64", "cuda")
    assert [name for name in names if find_target(name).multiplies_bf16] == ["cpu:znver4", "cpu:sapphirerapids", "cuda"]
