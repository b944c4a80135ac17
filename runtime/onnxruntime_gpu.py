# pyright: basic
"""Running sessions on a device: what is fed is copied there once, results are copied back, into memory of the caller's own.

Law: no result shares memory with a feed, with another result, or with what the next run writes to. Any number of threads
may run; a CUDA graph is captured and replayed by one thread, as ONNX Runtime asks, and runs wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import EngineFailure
from .manifest import SignatureEntry


class DeviceRuns(Protocol):
    """Runs a session on a device."""

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order; raises what ONNX Runtime raises."""
        ...

    def close(self) -> None:
        """Let go of threads; runs under way end normally."""
        ...


def bindable(inputs: Sequence[SignatureEntry], outputs: Sequence[SignatureEntry]) -> bool:
    """Whether all values can lie on a device: tensors of what is not text."""
    return all(each.kind == "tensor" and each.dtype != "str" for each in (*inputs, *outputs))


class BoundRuns:
    """A binding for each run: ONNX Runtime copies each feed to where the graph wants it, and leaves results on the device."""

    def __init__(
        self,
        session: Any,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
        make_feed: Callable[[str, Any], Any],
        fetch: Callable[[Any, Any], Any],
        device: tuple[str, int] = ("cuda", 0),
    ) -> None:
        """`make_feed` and `fetch` make OrtValues of arrays, and arrays of those, where NumPy lacks the element type."""
        self._session = session
        self._unusual = frozenset(each.name for each in inputs if not ELEMENT_TYPES[each.dtype].engine_takes_numpy)
        self._outputs = [(each.name, ELEMENT_TYPES[each.dtype]) for each in outputs]
        self._make_feed = make_feed
        self._fetch = fetch
        self._device = device

    def run(self, feeds: dict[str, Any]) -> list[object]:
        """The outputs in signature order; raises what ONNX Runtime raises."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if name in self._unusual:
                binding.bind_ortvalue_input(name, self._make_feed(name, value))
            else:
                binding.bind_cpu_input(name, np.asarray(value, order="C"))
        for name, element in self._outputs:
            device, number = self._device if element.engine_takes_numpy else ("cpu", 0)
            binding.bind_output(name, device, number)
        self._session.run_with_iobinding(binding)
        results = zip(binding.get_outputs(), self._outputs, strict=True)
        return [_own(value) if element.engine_takes_numpy else self._fetch(value, element) for value, (_, element) in results]

    def close(self) -> None:
        """Nothing to do."""


class GraphRuns:
    """A CUDA graph: inputs and outputs stay where they are on the device, and a run replays what the first one captured."""

    def __init__(
        self,
        session: Any,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
        onnxruntime: Any,
        device: tuple[str, int] = ("cuda", 0),
    ) -> None:
        """Raises EngineFailure where a graph cannot be captured, or would not read all that is fed."""
        reason = why_no_graph(inputs, outputs) or _why_not_on_device(session, device[0])
        if reason:
            raise EngineFailure(f"the program cannot run as a CUDA graph: {reason}", hint="compile without enable_cuda_graph")
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {each.name: _value(each, onnxruntime, device) for each in inputs}
        self._outputs = {each.name: _value(each, onnxruntime, device) for each in outputs}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        from concurrent.futures import ThreadPoolExecutor  # which programs on CPUs do without

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="irc-cuda-graph")

    def run(self, feeds: dict[str, Any]) -> list[object]:
        """The outputs in signature order; raises what ONNX Runtime raises."""
        return self._thread.submit(self._replay, feeds).result()

    def close(self) -> None:
        """Let go of the thread once runs under way have ended."""
        self._thread.shutdown(wait=False)

    def _replay(self, feeds: dict[str, Any]) -> list[object]:
        for name, value in self._inputs.items():
            value.update_inplace(np.asarray(feeds[name], order="C"))
        self._session.run_with_iobinding(self._binding)
        return [_own(value) for value in self._outputs.values()]


def why_no_graph(inputs: Sequence[SignatureEntry], outputs: Sequence[SignatureEntry]) -> str:
    """Why values cannot stay where they are on the device from run to run, as a clause; empty where they can."""
    for each in (*inputs, *outputs):
        if each.kind != "tensor" or not ELEMENT_TYPES[each.dtype].engine_takes_numpy or each.dtype == "str":
            return f"{each} is no tensor of plain numbers"
        if each.shape is None or not all(isinstance(dim, int) for dim in each.shape):
            return f"{each} has no fixed shape"
        if each.optional:
            return f"{each} may be left out"
    return ""


def _why_not_on_device(session: Any, device: str) -> str:
    """A replay runs nothing on the CPU, so what was read there when the graph was captured would be used again."""
    if device == "cpu":
        return ""
    for entry, place in zip(session.get_inputs(), session.get_input_memory_infos(), strict=True):
        if place.name.lower() == "cpu":
            return f"input {entry.name} is read on the CPU"
    return ""


def _value(entry: SignatureEntry, onnxruntime: Any, device: tuple[str, int]) -> Any:
    shape = list(entry.shape or ())
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, ELEMENT_TYPES[entry.dtype].numpy.type, *device)


def _own(value: Any) -> np.ndarray:
    """A result in memory of its own: `numpy` copies what lies on a device, and only that."""
    array = value.numpy()
    return np.array(array) if value.device_name() == "cpu" else array


__all__ = ["BoundRuns", "DeviceRuns", "GraphRuns", "bindable", "why_no_graph"]
