# pyright: basic
"""ONNX Runtime's execution providers: what a program may ask of them, and what has to be there before one of a GPU starts.

Law: only options listed here are passed on. Others name libraries to load and addresses to call, and an artifact may come
from anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ArtifactError, EngineFailure
from .gpu import cuda_driver, cuda_libraries, tensorrt_library

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

_SWITCH, _NUMBER = re.compile("[01]"), re.compile("[0-9]{1,18}")

PROVIDER_OPTIONS: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    CUDA: {
        "arena_extend_strategy": re.compile("kNextPowerOfTwo|kSameAsRequested"),
        "cudnn_conv1d_pad_to_nc1d": _SWITCH,
        "cudnn_conv_algo_search": re.compile("EXHAUSTIVE|HEURISTIC|DEFAULT"),
        "cudnn_conv_use_max_workspace": _SWITCH,
        "device_id": _NUMBER,
        "do_copy_in_default_stream": _SWITCH,
        "enable_cuda_graph": _SWITCH,
        "enable_skip_layer_norm_strict_mode": _SWITCH,
        "fuse_conv_bias": _SWITCH,
        "gpu_mem_limit": _NUMBER,
        "prefer_nhwc": _SWITCH,
        "sdpa_kernel": _NUMBER,
        "use_ep_level_unified_stream": _SWITCH,
        "use_tf32": _SWITCH,
    },
    TENSORRT: {
        "device_id": _NUMBER,
        "trt_bf16_enable": _SWITCH,
        "trt_builder_optimization_level": re.compile("[0-5]"),
        "trt_engine_cache_enable": re.compile("0"),  # a cache would be written to wherever the program runs
        "trt_fp16_enable": _SWITCH,
        "trt_int8_enable": _SWITCH,
        "trt_layer_norm_fp32_fallback": _SWITCH,
        "trt_max_workspace_size": _NUMBER,
        "trt_min_subgraph_size": _NUMBER,
        "trt_timing_cache_enable": re.compile("0"),
    },
}
"""The options of each provider and what their values look like, as ONNX Runtime 1.31 has them."""

_LINKED = ("libcudart.so", "libcublas.so", "libcublasLt.so", "libcurand.so")
"""Without these the CUDA provider cannot be loaded; the others it asks for when an op needs them."""


def check_provider_options(providers: Sequence[str], options: Mapping[str, str]) -> None:
    """Raise ArtifactError for a key that is no `PROVIDER.OPTION` of the `providers`, or a value that it does not take."""
    for key, value in options.items():
        provider, _, name = key.partition(".")
        if provider not in providers:
            raise ArtifactError(f"the provider option {key} is of none of the providers {', '.join(providers)}")
        pattern = PROVIDER_OPTIONS.get(provider, {}).get(name)
        if pattern is None:
            raise ArtifactError(f"{name} is no option of {provider} that a program may set")
        if not pattern.fullmatch(value):
            raise ArtifactError(f"the option {name} of {provider} does not take the value {value!r}")


def option_of(options: Mapping[str, str], provider: str, name: str) -> str:
    """The value of one option, empty where the program does not set it."""
    return options.get(f"{provider}.{name}", "")


def with_options(providers: Sequence[str], options: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The providers as a session takes them; f32 stays f32 where a program does not ask for TF32."""
    found = {each: {k.partition(".")[2]: v for k, v in options.items() if k.startswith(f"{each}.")} for each in providers}
    return [(each, {"use_tf32": "0", **values} if each == CUDA else values) for each, values in found.items()]


def needs_gpu(providers: Sequence[str]) -> bool:
    """Whether a program with these runs on an NVIDIA GPU."""
    return CUDA in providers or TENSORRT in providers


def prepare(providers: Sequence[str], onnxruntime: Any) -> None:
    """See that providers can start, and load the libraries that pip installed for them.

    Raises EngineFailure with what is missing: the GPU, the package with its kernels, or libraries.
    """
    on_gpu = needs_gpu(providers)
    if on_gpu and not cuda_driver().gpus:
        raise EngineFailure(f"the program runs on an NVIDIA GPU, but {cuda_driver().reason}")
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            hint = "pip install 'irc-compiler[cuda]'" if on_gpu else f"it has {', '.join(available)}"
            raise EngineFailure(f"ONNX Runtime here has no {provider}", hint=hint)
    if not on_gpu:
        return
    missing = [name for name, place in cuda_libraries().items() if not place and name.startswith(_LINKED)]
    if missing:
        raise EngineFailure(f"libraries of CUDA are missing: {', '.join(missing)}", hint="pip install 'irc-compiler[cuda]'")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find, whether it is needed or not
        onnxruntime.preload_dlls()
    if TENSORRT in providers:
        _prepare_tensorrt()


def _prepare_tensorrt() -> None:
    place = tensorrt_library()
    if not place:
        hint = "pip install 'tensorrt-cu13-libs<11'"
        raise EngineFailure("TensorRT 10 is not installed: libnvinfer.so.10 is not found", hint=hint)
    # TensorRT multiplies f32 in TF32 unless this says otherwise; it has no option for it (microsoft/onnxruntime#26029).
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    for name in ("libnvinfer.so.10", "libnvonnxparser.so.10") if place != "the system" else ():
        ctypes.CDLL(os.path.join(place, name), mode=ctypes.RTLD_GLOBAL)


__all__ = [
    "CPU",
    "CUDA",
    "PROVIDER_OPTIONS",
    "TENSORRT",
    "check_provider_options",
    "needs_gpu",
    "option_of",
    "prepare",
    "with_options",
]
