# pyright: basic
"""The quantizers that are measured, each from a model's file and calibration data to a quantized file, at its own defaults.

Run as a process: `python benchmarks/quantizers.py TOOL MODEL OUT --samples FOLDER [--block-size 32]` does the work once and
prints JSON: its seconds, and what had to be done to the model before. Samples are `.npz` files of arrays by input name. It
imports nothing of irc's, so that another interpreter can run it, one in which a quantizer is installed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Work:
    """A model, where its quantized form goes, the folder of samples, and how many weights share a step."""

    model: Path
    out: Path
    samples: Path
    block_size: int

    def feeds(self) -> Iterator[dict[str, Any]]:
        """The samples in order."""
        for path in sorted(self.samples.glob("*.npz")):
            with np.load(path, allow_pickle=False) as file:
                yield {name: file[name] for name in file.files}


def static(work: Work) -> str:
    """ONNX Runtime's static quantizer as its documentation advises for processors with VNNI.

    QDQ, u8 activations, i8 weights per channel, ranges by minimum and maximum; the model as its own preparation leaves it, and
    where the quantizer fails on that, with constants folded, or as it is.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = work.feeds()

        def get_next(self) -> Any:
            return next(self._feeds, None)

    def quantize(source: Path) -> None:
        quantize_static(
            source,
            work.out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )

    return first_that_works(work.model, quantize)


def nbits(work: Work) -> str:
    """ONNX Runtime's quantizer of weights by blocks: 4 bits, asymmetric, as it is by default.

    It takes only MatMuls whose matrix is a constant, so transposes in front are folded and each Gemm is taken apart before.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with tempfile.TemporaryDirectory(prefix="irc-quantizers-") as folder:
        source = Path(folder) / "folded.onnx"
        fold_constants(work.model, source, ["MatMulAddFusion"])
        model = onnx.load(source)
        take_apart(model.graph)
        quantizer = MatMulNBitsQuantizer(model, block_size=work.block_size, is_symmetric=False)
        quantizer.process()
        made: Any = quantizer.model
        onnx.save(getattr(made, "model", made), work.out)
    return "constants folded, Gemm taken apart"


def nncf(work: Work) -> str:
    """NNCF's post-training quantization on OpenVINO's form of the model, which is written as `.xml` and `.bin`."""
    import nncf  # pyright: ignore[reportMissingImports]  # an extra that few have, maybe another interpreter's
    import openvino

    feeds = list(work.feeds())
    quantized = nncf.quantize(openvino.convert_model(work.model), nncf.Dataset(feeds), subset_size=len(feeds))
    openvino.save_model(quantized, work.out, compress_to_fp16=False)
    return "converted"


def first_that_works(model: Path, quantize: Callable[[Path], None]) -> str:
    """Quantize the prepared model, else the folded, else the file; which it was. Raises what the last raised."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    preparations: dict[str, Callable[[Path, Path], object]] = {
        "prepared": quant_pre_process,
        "constants folded": fold_constants,
    }
    with tempfile.TemporaryDirectory(prefix="irc-quantizers-") as folder:
        for name, prepare in preparations.items():
            source = Path(folder) / f"{name}.onnx"
            try:
                prepare(model, source)
                quantize(source)
            except Exception as error:  # whatever its code runs into; the next is tried, and what was taken is reported
                print(f"{name}: {error}", file=sys.stderr)
                continue
            return name
    quantize(model)
    return "as it is"


def fold_constants(model: Path, out: Path, without: list[str] | None = None) -> None:
    """What ONNX Runtime's portable optimizations leave of a model, without those named."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=without or [])


def take_apart(graph: Any) -> None:
    """Every Gemm without factors whose matrix is a constant becomes a MatMul and an Add."""
    from onnx import helper, numpy_helper

    constants = {each.name: each for each in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            nodes.append(node)
            continue
        matrix = node.input[1]
        if given.get("transB", 0):
            turned = numpy_helper.to_array(constants[matrix]).T.copy()
            matrix = f"{node.output[0]}_matrix"
            graph.initializer.append(numpy_helper.from_array(turned, matrix))
        biased = len(node.input) > 2 and node.input[2]
        product = f"{node.output[0]}_product" if biased else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], matrix], [product], f"{node.output[0]}_MatMul"))
        if biased:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], f"{node.output[0]}_Add"))
    del graph.node[:]
    graph.node.extend(nodes)


TOOLS: dict[str, Callable[[Work], str]] = {"static": static, "nbits": nbits, "nncf": nncf}


def main() -> None:
    """Quantize once and report."""
    parser = argparse.ArgumentParser(prog="quantizers.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--block-size", type=int, default=32)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # the tools count every node they look at
    begin = time.perf_counter()
    what = TOOLS[arguments.tool](Work(arguments.model, arguments.out, arguments.samples, arguments.block_size))
    print(json.dumps({"seconds": time.perf_counter() - begin, "model": what}))


if __name__ == "__main__":
    main()
