# pyright: basic
"""Running an OpenVINO IR (`model.xml`, `model.bin`) on its CPU plugin: weights stay where they lie, results are the caller's.

The plugin computes in 32 bits where a model says 64. What is fed is checked to fit; that what is computed fits is for the
compiler to see to (`irc.lowering.openvino`).
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError, EngineFailure
from .machine import physical_cores
from .manifest import OptionValue, SignatureEntry
from .zip_store import Buffer

XML_FILE = "model.xml"
BIN_FILE = "model.bin"
OPS_FILE = "ops.onnx"
"""What was lowered, with locations and histories: for whoever looks, never for running."""

_PRECISIONS = ("f32", "bf16", "f16")


@dataclass(frozen=True, slots=True)
class OpenVinoOptions:
    """How a model is compiled; this is also the schema of `engine_options` for the engine `openvino`.

    threads: that work on one call, None for one per physical core that this process may use.
    streams: calls that are worked on at a time, each with its share of the threads.
    precision: `f32`, or `bf16` and `f16` for what OpenVINO may compute in less; its own default is the fastest there is.
    config: properties of the plugin, by OpenVINO's own names.
    """

    threads: int | None = None
    streams: int = 1
    precision: str = "f32"
    config: Mapping[str, str] = field(default_factory=dict)

    def to_manifest(self) -> dict[str, OptionValue]:
        """The options as a manifest holds them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @staticmethod
    def from_manifest(values: Mapping[str, OptionValue]) -> OpenVinoOptions:
        """The options in a manifest; raises ArtifactError for one unknown or of the wrong type."""
        kinds = {"threads": int, "streams": int, "precision": str, "config": Mapping}
        for name, value in values.items():
            if name not in kinds:
                raise ArtifactError(f"{name} is no option of the engine openvino")
            if not isinstance(value, kinds[name]) or isinstance(value, bool):
                raise ArtifactError(f"the option {name} of the engine openvino has a value of the wrong type")
        options = OpenVinoOptions(**values)  # type: ignore[arg-type]
        if options.precision not in _PRECISIONS:
            raise ArtifactError(f"{options.precision} is no precision of the engine openvino; it has {', '.join(_PRECISIONS)}")
        return options


class OpenVinoExecutor:
    """One compiled model, and as many requests as there are calls at a time."""

    def __init__(
        self,
        xml: bytes,
        weights: Buffer,
        options: OpenVinoOptions,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            hint = "pip install 'irc-compiler[openvino]'"
            raise EngineFailure("OpenVINO, which the program runs on, is not installed", hint=hint) from error
        self._openvino: Any = openvino
        self._bytes = weights  # to stay where they are while the model lives
        try:
            self._compiled: Any = openvino.compile_model(read_model(xml, weights), "CPU", _properties(options))
        except Exception as error:  # OpenVINO's exceptions have no common base but Exception
            raise EngineFailure(f"OpenVINO could not build the program: {reason(error)}") from error
        places = {name: index for index, port in enumerate(self._compiled.inputs) for name in port.get_names()}
        gives = {name: index for index, port in enumerate(self._compiled.outputs) for name in port.get_names()}
        for each in outputs:
            if each.name not in gives:
                raise ArtifactError(f"the manifest speaks of {each.name}, which {XML_FILE} does not have")
        used = [each for each in inputs if each.name in places]  # OpenVINO drops what no result depends on
        self._inputs = [(each.name, places[each.name], each.dtype == "i64") for each in used]
        self._outputs = [_Output.of(self._compiled.outputs[gives[each.name]], gives[each.name], each) for each in outputs]
        self._idle: deque[Any] = deque()

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order; raises EngineFailure with what OpenVINO says, and where 64 bits are needed."""
        for name, _, wide in self._inputs:
            if wide:
                _check_range(name, feeds[name])
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            return self._run(request, feeds)
        except Exception as error:  # OpenVINO's exceptions have no common base but Exception
            raise EngineFailure(f"OpenVINO could not run the program: {reason(error)}") from error
        finally:
            self._idle.append(request)

    @property
    def compiled(self) -> Any:
        """OpenVINO's own compiled model."""
        return self._compiled

    def recorded(self) -> list[Any]:
        """What OpenVINO has noted of each of its nodes in the runs so far; for one thread, and options that record."""
        return self._idle[-1].get_profiling_info()

    def close(self) -> None:
        """Nothing to do: the model ends with its last user."""

    def _run(self, request: Any, feeds: dict[str, Any]) -> list[object]:
        tensor = self._openvino.Tensor
        for name, place, _ in self._inputs:
            array = feeds[name]
            if not array.flags.c_contiguous:
                array = array.copy(order="C")
            # Only a tensor that could be written to is taken without a copy.
            request.set_input_tensor(place, tensor(array, shared_memory=array.flags.writeable))
        results: list[Any] = []
        for each in self._outputs:
            fresh = each.fresh()
            if fresh is not None:
                request.set_output_tensor(each.place, tensor(fresh, shared_memory=True))
            results.append(fresh)
        request.start_async()
        request.wait()
        for index, each in enumerate(self._outputs):
            if results[index] is None:
                results[index] = np.array(request.get_output_tensor(each.place).data)
        return results


@dataclass(frozen=True, slots=True)
class _Output:
    """Where a result lies, and its array where its size is known ahead: OpenVINO then writes straight into it."""

    place: int
    shape: tuple[int, ...] | None
    dtype: Any

    @staticmethod
    def of(port: Any, place: int, entry: SignatureEntry) -> _Output:
        shape = tuple(port.shape) if port.get_partial_shape().is_static else None
        return _Output(place, None if shape is None or 0 in shape else shape, ELEMENT_TYPES[entry.dtype].numpy)

    def fresh(self) -> Any:
        return None if self.shape is None else np.empty(self.shape, self.dtype)


def read_model(xml: bytes, weights: Buffer) -> Any:
    """OpenVINO's model of an IR, whose weights have to stay where they are while it lives."""
    import openvino

    return openvino.Core().read_model(xml, openvino.Tensor(_shareable(weights), shared_memory=True))


def _properties(options: OpenVinoOptions) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": options.threads or physical_cores(),
        "NUM_STREAMS": options.streams,
        "PERFORMANCE_HINT": "LATENCY" if options.streams == 1 else "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": options.precision,
        **options.config,
    }


def _shareable(weights: Buffer) -> np.ndarray:
    """The bytes as an array that claims to be writable, as OpenVINO asks for one; it only ever reads them.

    The array does not keep the bytes alive.
    """
    array = np.frombuffer(weights, np.uint8) if len(weights) else np.zeros(1, np.uint8)
    if array.flags.writeable:
        return array
    return np.ctypeslib.as_array((ctypes.c_ubyte * array.size).from_address(array.ctypes.data))


def _check_range(name: str, array: Any) -> None:
    """Raises EngineFailure for an integer that 32 bits cannot hold: OpenVINO would compute with another."""
    if array.size and (array.max() > 0x7FFFFFFF or (array.dtype.kind == "i" and array.min() < -0x80000000)):
        raise EngineFailure(
            f"input {name} has a value beyond 32 bits, and OpenVINO computes integers in no more",
            hint="compile with --engine onnxruntime",
        )


_ELEMENTS = {"boolean": "bool", "i8": "i8", "u8": "u8", "i32": "i32", "i64": "i64", "f16": "f16", "f32": "f32", "f64": "f64"}


def plain_run(
    model: Any, threads: int | None, precision: str | None = "f32"
) -> tuple[Any, tuple[SignatureEntry, ...], list[str]]:
    """A model as somebody runs it who has nothing but OpenVINO: how to, its inputs, the names of its outputs.

    It computes in `precision`; None is what OpenVINO itself prefers on this processor.
    """
    import openvino

    properties = _properties(OpenVinoOptions(threads=threads, precision=precision or "f32"))
    if precision is None:
        del properties["INFERENCE_PRECISION_HINT"]
    compiled: Any = openvino.compile_model(model, "CPU", properties)
    request = compiled.create_infer_request()
    inputs: list[SignatureEntry] = []
    for port in compiled.inputs:
        rank = port.get_partial_shape()
        shape = None if rank.rank.is_dynamic else tuple(d.get_length() if d.is_static else None for d in rank)
        inputs.append(SignatureEntry(port.get_any_name(), _ELEMENTS[port.get_element_type().get_type_name()], shape))

    def run(feeds: dict[str, object]) -> list[Any]:
        return list(request.infer(feeds, share_inputs=True).values())

    return run, tuple(inputs), [port.get_any_name() for port in compiled.outputs]


def reason(error: Exception) -> str:
    """OpenVINO's message without the places in its sources that it begins and ends with."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "Exception happened"))]
    text = " ".join(telling or lines)
    return (text if len(text) <= 400 else text[:400] + "…").rstrip(". ")
