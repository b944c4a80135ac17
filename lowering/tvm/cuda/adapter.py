# pyright: basic
"""All that irc asks of TVM for GPUs: from a small ONNX model to CUDA C and the launches that compute it.

Law: nothing else asks TVM for this. Sizes are all known, so each launch has numbers for its grid and its blocks, and every
pointer that a kernel gets is a whole buffer.

Method: TVM's own import of ONNX, its fusion, and its schedules for GPUs (dlight), up to where host and device part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx

from ..adapter import part, said, whole
from .code import Buffer, Code, Launch, Three
from .source import cleaned

_HOST = "llvm"
_NARROW, _MOST_NARROW = ("blockIdx.y", "blockIdx.z"), 65_535
"""The axes of a grid along which there are not so many blocks."""
_TRUTHS = re.compile(r"\b(make_)?u?(char|short)[234]\b")
"""Vectors of bools, which TVM writes down in types that do not fit."""
_LONGEST_SAID = 300
"""Characters of TVM's own words in an error."""
_EXPLICIT = "pragma_unroll_explicit"
_MOST_THREADS, _MOST_SHARED, _WARP = 1024, 48 << 10, 32
"""Of a block: what every GPU has since compute capability 5.0, without asking for more."""


def device_code(model: bytes, architecture: str, prefix: str) -> Code:
    """The kernels of an ONNX model, whose names begin with `prefix`, for an architecture such as `sm_80`.

    Raises ValueError, with TVM's own words, for a model that TVM does not take.
    """
    target, message = _target(architecture), onnx.load_model_from_string(model)
    try:
        module = _scheduled(message, target)
        code = _code(module, target, prefix, lanes=True)
        return _code(module, target, prefix, lanes=False) if _TRUTHS.search(code.source) else code
    except Exception as error:  # TVM's errors have no common base but Exception
        names = ", ".join(node.op_type for node in message.graph.node)
        raise ValueError(f"TVM takes no {names}: {said(error)[:_LONGEST_SAID]}") from error


def _code(module: Any, target: Any, prefix: str, lanes: bool) -> Code:
    """The kernels of a scheduled module and their launches; with `lanes`, loops that may be are computed in vectors."""
    lowered = _lowered(module, target, lanes)
    walk = _Walk(lowered, prefix)
    outputs = walk.main(module["main"])
    source = ""
    if walk.used:
        device = _device_functions(lowered, walk.used)
        source = cleaned(whole().get_global_func("target.build.cuda")(device, target).inspect_source())
    return Code(source, tuple(walk.buffers), tuple(walk.launches), tuple(outputs))


def _scheduled(model: Any, target: Any) -> Any:
    """The model in Relax, every op of which is a call of a kernel with its schedule."""
    tvm = whole()
    relax = part("relax")
    module = part("relax.frontend.onnx").from_onnx(model, keep_params_in_input=False)
    steps = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
    ]
    with target:
        module = tvm.ir.transform.Sequential(steps)(module)
    for name, function in list(module.functions_items()):
        if isinstance(function, tvm.tirx.PrimFunc):
            module[name] = _with_schedule(function, target)
    return module


def _with_schedule(function: Any, target: Any) -> Any:
    """The function by the first of TVM's rules that binds all its loops to threads."""
    gpu = part("s_tir.dlight.gpu")
    for rule in (gpu.Matmul, gpu.GEMV, gpu.Reduction, gpu.GeneralReduction, gpu.Transpose, gpu.Fallback):
        try:
            made = rule().apply(function, target, False)
        except Exception:  # a rule may fail where it does not fit: TVM's errors have no common base, and the next may fit
            continue
        schedule = made[0] if isinstance(made, list) else made
        if schedule is not None and _is_bound(schedule):
            _roll(schedule)
            return schedule.mod["main"].with_attrs(function.attrs)
    raise ValueError("it has no schedule for GPUs")


def _is_bound(schedule: Any) -> bool:
    """Whether threads run all blocks, no more of them along an axis than a GPU launches."""
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        bound = [loop for each in schedule.get_loops(block) if (loop := schedule.get(each)).thread_binding is not None]
        if not bound:
            return False
        if any(loop.thread_binding.thread_tag in _NARROW and int(loop.extent) > _MOST_NARROW for loop in bound):
            return False
    return True


def _roll(schedule: Any) -> None:
    """Leave the unrolling of loops to the compiler: the text is a twentieth as long, and the code the same."""
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        for loop in schedule.get_loops(block):
            if _EXPLICIT in schedule.get(loop).annotations:
                schedule.unannotate(loop, _EXPLICIT)
                schedule.annotate(loop, _EXPLICIT, 0)


def _lowered(module: Any, target: Any, lanes: bool) -> dict[str, Any]:
    """The functions on both sides, by name: those that launch kernels, and the kernels."""
    tvm = whole()
    functions = {gv.name_hint: each for gv, each in module.functions_items() if isinstance(each, tvm.tirx.PrimFunc)}
    prepared = tvm.IRModule({name: each.with_attr("global_symbol", name) for name, each in functions.items()})
    prepared = tvm.tirx.transform.BindTarget(target.with_host(tvm.target.Target(_HOST)))(prepared)
    return {gv.name_hint: each for gv, each in _passes(lanes)(prepared).functions_items()}


def _device_functions(lowered: dict[str, Any], names: dict[str, str]) -> Any:
    """The kernels under their new names, as CUDA's code generator takes them."""
    tvm = whole()
    kernels = {new: lowered[old].with_attr("global_symbol", new) for old, new in names.items()}
    transform = tvm.tirx.transform
    steps = [transform.LowerWarpMemory(), transform.StmtSimplify(), transform.LowerIntrin()]
    return tvm.ir.transform.Sequential(steps)(tvm.IRModule(kernels))


class _Walk:
    """The main function of a module, as launches: buffers get numbers, the inputs' first."""

    def __init__(self, lowered: dict[str, Any], prefix: str) -> None:
        self.lowered = lowered
        self.prefix = prefix
        self.used: dict[str, str] = {}
        self.buffers: list[Buffer] = []
        self.launches: list[Launch] = []
        self._values: dict[Any, list[int]] = {}
        self._constants: dict[Any, int] = {}

    def main(self, function: Any) -> list[int]:
        """The numbers of the outputs' buffers."""
        for parameter in function.params:
            self._values[parameter] = self._made(parameter.ty)
        for block in function.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = self._value(binding.value)
        return self._value(function.body.body)

    def _value(self, value: Any) -> list[int]:
        """The buffers of an expression: one, or those of a tuple."""
        relax = part("relax")
        if isinstance(value, relax.Var):
            return self._values[value]
        if isinstance(value, relax.Tuple):
            return [each for field in value.fields for each in self._value(field)]
        if isinstance(value, relax.TupleGetItem):
            return [self._value(value.tuple_value)[value.index]]
        if isinstance(value, whole().ir.GenericConst):
            return [self._constant(value)]
        name = getattr(value.op, "name", "")
        if name == "relax.call_tir":
            made = self._made(value.ty_args[0])
            self._call(value.args[0].name_hint, [*self._value(value.args[1]), *made])
            return made
        if name in ("relax.reshape", "relax.memory.view"):
            return self._value(value.args[0])
        raise ValueError(f"TVM leaves {name or value} to a function of its own")

    def _made(self, kind: Any) -> list[int]:
        """New buffers of a type."""
        if hasattr(kind, "fields"):
            return [each for field in kind.fields for each in self._made(field)]
        shape = [int(size) for size in kind.shape.values]
        self.buffers.append(Buffer(_byte_count(kind.dtype, shape)))
        return [len(self.buffers) - 1]

    def _constant(self, value: Any) -> int:
        if value not in self._constants:
            array = value.value.numpy()
            content = array.tobytes()
            self._constants[value] = len(self.buffers)
            self.buffers.append(Buffer(max(len(content), 1), content))
        return self._constants[value]

    def _call(self, name: str, arguments: Sequence[int]) -> None:
        """The launches of a function on buffers."""
        tvm = whole()
        function = self.lowered[name]
        places = dict(zip(function.params, arguments, strict=True))
        body = function.body
        for statement in body.seq if isinstance(body, tvm.tirx.SeqStmt) else [body]:
            if isinstance(statement, tvm.tirx.AllocBuffer):
                places[statement.buffer] = len(self.buffers)
                self.buffers.append(Buffer(_byte_count(statement.buffer.dtype, [int(size) for size in statement.buffer.shape])))
            elif isinstance(statement, tvm.tirx.DeclBuffer):
                places[statement.buffer] = places[statement.data.args[0]]  # another shape of the same memory
            elif isinstance(statement, tvm.tirx.Evaluate) and hasattr(statement.value, "args"):
                self._launch(statement.value.args, places)
            else:
                raise ValueError(f"TVM computes on the host in {name}")

    def _launch(self, arguments: Sequence[Any], places: dict[Any, int]) -> None:
        kernel = arguments[0].value
        tags = [str(each) for each in self.lowered[kernel].attrs["tirx.kernel_launch_params"]]
        split = len(arguments) - len(tags)
        extents = dict(zip(tags, (int(each) for each in arguments[split:]), strict=True))
        if unknown := [tag for tag in tags if tag[:-1] not in ("blockIdx.", "threadIdx.")]:
            raise ValueError(f"a kernel asks for {unknown[0]}")
        number = self.used.setdefault(kernel, f"{self.prefix}{len(self.used)}")
        grid, block = (_three(extents, each) for each in ("blockIdx", "threadIdx"))
        given = tuple(places[each.args[0]] for each in arguments[1:split])  # each is the memory of a buffer
        self.launches.append(Launch(number, grid, block, given))


def _three(extents: dict[str, int], index: str) -> Three:
    return extents.get(f"{index}.x", 1), extents.get(f"{index}.y", 1), extents.get(f"{index}.z", 1)


def _byte_count(dtype: Any, shape: Sequence[int]) -> int:
    bits = whole().DataType(str(dtype)).bits
    return max(1, math.prod(shape)) * -(-bits // 8)


@cache
def _target(architecture: str) -> Any:
    return whole().target.Target(
        {
            "kind": "cuda",
            "arch": architecture,
            "max_threads_per_block": _MOST_THREADS,
            "max_num_threads": _MOST_THREADS,
            "max_shared_memory_per_block": _MOST_SHARED,
            "thread_warp_size": _WARP,
        }
    )


@cache
def _passes(lanes: bool) -> Any:
    """From scheduled loops to kernels and their launches: TVM's own pipeline, without its calling convention."""
    tvm = whole()
    plain, scheduled = tvm.tirx.transform, tvm.s_tir.transform
    return tvm.ir.transform.Sequential(
        [
            scheduled.CanonicalizeLoop(),
            scheduled.LowerCrossThreadReduction(),
            scheduled.LowerInitBlock(),
            scheduled.PlanAndUpdateBufferAllocationLocation(),
            scheduled.ConvertBlocksToOpaque(),
            scheduled.LiftThreadBinding(),
            scheduled.ManifestSharedMemoryLocalStage(),
            scheduled.CompactBufferAllocation(),
            scheduled.LowerAutoCopy(),
            scheduled.UnifyThreadBinding(),
            scheduled.LowerMatchBuffer(),
            scheduled.StmtSimplify(),
            scheduled.AnnotateIrregularLoop(),
            scheduled.InjectSoftwarePipeline(),
            scheduled.LowerOpaqueBlock(),
            plain.FlattenBuffer(),
            plain.NarrowDataType(32),
            scheduled.LoopPartition(),
            plain.VectorizeLoop(lanes),
            scheduled.InjectVirtualThread(),
            scheduled.InjectDoubleBuffer(),
            plain.StorageRewrite(),
            scheduled.HoistIfThenElse(),
            plain.UnrollLoop(),
            scheduled.RenormalizeSplitPattern(),
            plain.StmtSimplify(),
            plain.RemoveNoOp(),
            scheduled.RewriteUnsafeSelect(),
            plain.CommonSubexprElim(),
            plain.VerifyMemory(),
            plain.AnnotateEntryFunc(),
            scheduled.ThreadSync("shared"),
            scheduled.ThreadSync("warp"),
            scheduled.LowerThreadAllreduce(),
            scheduled.MergeSharedMemoryAllocations(),
            plain.SplitHostDevice(),
        ]
    )
