# pyright: basic
"""Running `model.onnx` on ONNX Runtime: weights handed over from where they lie, results never shared with anyone."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .dtypes import ELEMENT_TYPES, ElementType
from .errors import ArtifactError, EngineFailure
from .heap import trimmed_heap
from .machine import physical_cores
from .manifest import OptionValue, SignatureEntry
from .onnxruntime_gpu import BoundRuns, DeviceRuns, GraphRuns, bindable
from .onnxruntime_providers import CUDA, check_provider_options, needs_gpu, option_of, prepare, with_options
from .onnxruntime_weights import FROM_MEMORY, Supply, in_place, is_large, ort_value, supplied
from .spilling import forget_pages
from .weights import WeightView

_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}


@dataclass(frozen=True, slots=True)
class OnnxRuntimeOptions:
    """How a session is made; this is also the schema of `engine_options` for the engine `onnxruntime`.

    threads: of one op, None for one per physical core that this process may use.
    spin: idle threads poll for work. On 2 threads it took 3 % (unet) to 42 % (efficientnet_b0) off the time without,
        12 % at the median of eight models, and as ONNX Runtime's own default it is what others are compared with. False
        is for machines shared with other work.
    optimization: `disable`, `basic`, `extended`, `layout` or `all`.
    disabled_optimizers: passes of ONNX Runtime left out. `Pad_Fusion` merges Pad(0) with MaxPool wrongly
        (microsoft/onnxruntime#18136). `MatmulTransposeFusion` makes products with transposed batches, whose kernel divides
        by zero on an empty sequence and takes the process with it.
    shared_weights: weights that the session uses where they lie instead of copying them. ONNX Runtime does not notice
        when one of its optimizers replaced such a weight, so only weights belong here that none touches. With
        `disable` all are shared without being named. A GPU has its own copy of each, whatever is named.
    provider_options: of providers, such as `CUDAExecutionProvider.prefer_nhwc`; onnxruntime_providers.py lists them.
    """

    threads: int | None = None
    spin: bool = True
    optimization: str = "all"
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    disabled_optimizers: tuple[str, ...] = ("Pad_Fusion", "MatmulTransposeFusion")
    shared_weights: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)

    def to_manifest(self) -> dict[str, OptionValue]:
        """The options as a manifest holds them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if not self.provider_options:
            del values["provider_options"]
        return {name: value for name, value in values.items() if value is not None}

    @staticmethod
    def from_manifest(values: Mapping[str, OptionValue]) -> OnnxRuntimeOptions:
        """The options in a manifest; raises ArtifactError for one unknown or of the wrong type."""
        known = {each.name: each for each in fields(OnnxRuntimeOptions)}
        kinds = {"threads": int, "spin": bool, "optimization": str, "config": Mapping, "provider_options": Mapping}
        for name, value in values.items():
            if name not in known:
                raise ArtifactError(f"{name} is no option of the engine onnxruntime")
            kind = kinds.get(name, tuple)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ArtifactError(f"the option {name} of the engine onnxruntime has a value of the wrong type")
        options = OnnxRuntimeOptions(**values)  # type: ignore[arg-type]
        if options.optimization not in _LEVELS:
            raise ArtifactError(f"{options.optimization} is no optimization level of the engine onnxruntime")
        check_provider_options(options.providers, options.provider_options)
        return options


class OnnxRuntimeExecutor:
    """One session. Weights stay in the memory they came in until the session has its own form of them.

    With a folder for `recording`, the session leaves there the graph that it makes of the model, and notes what each kernel
    takes until `end_recording`.
    """

    RECORDED_GRAPH: ClassVar[str] = "engine.onnx"

    def __init__(
        self,
        model: bytes,
        weights: Mapping[str, WeightView],
        options: OnnxRuntimeOptions,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
        recording: Path | None = None,
    ) -> None:
        import onnxruntime

        self._weights = {name: ort_value(weight, onnxruntime) for name, weight in weights.items()}
        shared = in_place(weights, options)

        def made(supply: Supply) -> Any:
            session_options = _session_options(options, onnxruntime)
            if recording is not None:
                _record(session_options, recording / self.RECORDED_GRAPH)
            _supply(session_options, self._weights, shared, supply)
            return _session(model, session_options, options, onnxruntime)

        small = not is_large(weights)
        with nullcontext() if small else trimmed_heap(lambda: forget_pages(weights)), supplied(weights, options) as supply:
            try:
                session = made(supply)
            except EngineFailure:
                if not supply.names:
                    raise
                session = made(FROM_MEMORY)  # one of its optimizers or the recording wants to look at what it does not use
        self._check_names(session, inputs, outputs)
        self._device_runs: DeviceRuns | None = None
        self._session: Any = session._sess  # its Python wrapper adds some microseconds to every run
        self._output_names = [each.name for each in outputs]
        self._inputs = {each.name: ELEMENT_TYPES[each.dtype] for each in inputs}
        self._outputs = [ELEMENT_TYPES[each.dtype] for each in outputs]
        self._ort_value: Any = onnxruntime.OrtValue
        self._otherwise: Callable[[dict[str, object]], list[object]] | None = None
        if needs_gpu(options.providers) and bindable(inputs, outputs):
            self._device_runs = self._on_gpu(session, options, inputs, outputs, onnxruntime)
            self._otherwise = self._device_runs.run
            return
        unusual = [each for each in (*inputs, *outputs) if not ELEMENT_TYPES[each.dtype].engine_takes_numpy]
        if not unusual:
            return
        for entry in (*inputs, *outputs):
            if entry.kind != "tensor":
                reason = f"{entry} is not a tensor, and the ONNX Runtime API takes only tensors beside {unusual[0]}"
                raise EngineFailure(reason)
        self._otherwise = self._run_unusual

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order; raises EngineFailure with what ONNX Runtime says."""
        try:
            if self._otherwise is not None:
                return self._otherwise(feeds)
            return self._session.run(self._output_names, feeds, None)
        except Exception as error:
            raise _failure(error, "ONNX Runtime could not run the program") from error

    def assigned(self) -> list[tuple[str, str, str]]:
        """The nodes by name, op type and provider, where `session.record_ep_graph_assignment_info` of `config` is 1."""
        parts = self._session.get_provider_graph_assignment_info()
        return [(node.name, node.op_type, part.ep_name) for part in parts for node in part.get_nodes()]

    def end_recording(self) -> Path:
        """The file of the events of all runs so far, JSON as Chrome's tracing has it."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Let go of what runs on a GPU; the session ends with its last user."""
        if self._device_runs is not None:
            self._device_runs.close()

    def _run_unusual(self, feeds: dict[str, object]) -> list[object]:
        """As `run`, where NumPy and ONNX Runtime share no element type (bf16, 8-bit floats)."""
        values = {name: self._feed(name, value) for name, value in feeds.items()}
        raw = {name: value._ortvalue for name, value in values.items()}
        results = self._session.run_with_ort_values(raw, self._output_names, None)
        return [_fetch(value, element) for value, element in zip(results, self._outputs, strict=True)]

    def _on_gpu(
        self,
        session: Any,
        options: OnnxRuntimeOptions,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
        onnxruntime: Any,
    ) -> DeviceRuns:
        device = "cuda", int(option_of(options.provider_options, CUDA, "device_id") or 0)
        if option_of(options.provider_options, CUDA, "enable_cuda_graph") != "1":
            return BoundRuns(session, inputs, outputs, self._feed, _fetch, device)
        try:
            return GraphRuns(session, inputs, outputs, onnxruntime, device)
        except EngineFailure:
            raise
        except Exception as error:
            raise _failure(error, "ONNX Runtime could not lay out the program's values on the GPU") from error

    def _feed(self, name: str, value: Any) -> Any:
        element = self._inputs[name]
        if element.engine_takes_numpy:
            return self._ort_value.ortvalue_from_numpy(value)
        if element.bits < 8:
            value = _pack(value, element)
        return self._ort_value.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(value), element.onnx_code)

    @staticmethod
    def _check_names(session: Any, inputs: Sequence[SignatureEntry], outputs: Sequence[SignatureEntry]) -> None:
        takes = {each.name for each in (*session.get_inputs(), *session.get_overridable_initializers())}
        gives = {each.name for each in session.get_outputs()}
        wrong = ({each.name for each in inputs} - takes) | ({each.name for each in outputs} - gives)
        if wrong:
            raise ArtifactError(f"the manifest speaks of {min(wrong)}, which model.onnx does not have")


def _session_options(options: OnnxRuntimeOptions, onnxruntime: Any) -> Any:
    result = onnxruntime.SessionOptions()
    result.log_severity_level = 4  # what goes wrong arrives as an exception
    result.intra_op_num_threads = options.threads or physical_cores()
    result.inter_op_num_threads = 1
    result.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    level = _LEVELS[options.optimization]
    result.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if not options.spin:
        result.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in options.config.items():
        result.add_session_config_entry(key, value)
    return result


def _record(session_options: Any, graph: Path) -> None:
    session_options.enable_profiling = True
    session_options.profile_file_prefix = str(graph.with_name("events"))
    session_options.optimized_model_filepath = str(graph)
    # The weights go to a file of their own: with them the graph could be larger than a message may be.
    session_options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    session_options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")


def _supply(session_options: Any, values: Mapping[str, Any], shared: frozenset[str], supply: Supply) -> None:
    copied = [name for name in values if name not in supply.names]
    session_options.add_external_initializers(copied, [values[name] for name in copied])
    for name in shared:
        session_options.add_initializer(name, values[name])
    if supply.folder is not None:
        session_options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(supply.folder))


def _session(model: bytes, session_options: Any, options: OnnxRuntimeOptions, onnxruntime: Any) -> Any:
    prepare(options.providers, onnxruntime)
    try:
        session = onnxruntime.InferenceSession(
            model,
            session_options,
            providers=with_options(options.providers, options.provider_options),
            disabled_optimizers=list(options.disabled_optimizers),
            enable_fallback=0,
        )
    except Exception as error:
        raise _failure(error, "ONNX Runtime could not build the program") from error
    for provider in options.providers:
        if provider not in session.get_providers():
            hint = "its libraries are missing or the device is; irc doctor says which"
            raise EngineFailure(f"ONNX Runtime could not start {provider}", hint=hint)
    session._model_bytes = None
    return session


def _fetch(value: Any, element: ElementType) -> np.ndarray:
    """A copy of an engine's value as an array: the value itself may be a feed that went straight through."""
    if element.engine_takes_numpy:
        return np.array(value.numpy())
    shape = tuple(value.shape())
    count = element.byte_count(int(np.prod(shape)))
    data = ctypes.string_at(value.data_ptr(), count) if count else b""
    if element.bits < 8:
        return _unpack(np.frombuffer(data, np.uint8), shape, element)
    return np.frombuffer(data, element.numpy).reshape(shape).copy()


def _pack(array: np.ndarray, element: ElementType) -> np.ndarray:
    """An array that holds one value per byte, packed, in the shape the engine asks for (see `_ort_value`)."""
    per_byte = 8 // element.bits
    flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1) & ((1 << element.bits) - 1)
    padded = np.concatenate([flat, np.zeros(-len(flat) % per_byte, np.uint8)]).reshape(-1, per_byte)
    shifts = (np.arange(per_byte) * element.bits).astype(np.uint8)
    packed = np.bitwise_or.reduce(padded << shifts, axis=1)
    result = np.zeros(array.size, np.uint8)
    result[: len(packed)] = packed
    return result.reshape(array.shape)


def _unpack(data: np.ndarray, shape: tuple[int, ...], element: ElementType) -> np.ndarray:
    shifts = (np.arange(8 // element.bits) * element.bits).astype(np.uint8)
    values = ((data[:, None] >> shifts) & ((1 << element.bits) - 1)).reshape(-1)[: int(np.prod(shape))]
    return values.view(element.numpy).reshape(shape)


_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_WHILE_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")
_SOURCE = re.compile(r"^\S*/\w[\w/]*\.(?:h|cc|cpp|cu):\d+ .*?\)(?: const)? (?=\S)")


def _failure(error: Exception, what: str) -> EngineFailure:
    """ONNX Runtime's message in one sentence, with the op where it names one."""
    text = " ".join(_PREFIX.sub("", str(error).strip()).split())
    location = None
    if match := _WHILE_RUNNING.search(text):
        location = match[2] or match[1]
        text = f"{match[1]}: " + _SOURCE.sub("", text[match.end() :])
    elif match := re.search(r'In Node, \("([^"]+)"|node \(([^)]+)\)', text):
        location = match[1] or match[2]
    if isinstance(error, MemoryError):
        text = "out of memory"
    text = text if len(text) <= 400 else text[:400] + "…"
    return EngineFailure(f"{what}: {text.rstrip('. ')}", location=location)
