"""What a program is: types, values, ops, graphs, their text form, their laws, how they come in and go out, what they mean."""

from . import dialect, dims, infer, schema, shapes
from .capture import Limits, capture
from .clone import clone_closed, clone_graph, clone_op
from .cost import Cost, cost_of
from .diagnostics import (
    EvaluationError,
    IrcError,
    ModelError,
    UnsupportedError,
    UsageError,
    VerifyError,
    closest,
)
from .dims import Dim, SymbolicDim
from .emit import Emitted, emit, save_onnx, to_model
from .garbage import collector_paused, trim_heap
from .graph import Graph, Op, Use, Value, constant_op
from .infer import make, refresh
from .location import Location, SourceOrigin, at, parse_origin, via
from .on_bytes import OnBytes, on_bytes, plain_of
from .one_sign import unsigned, with_one_sign
from .operators import Attribute, EmptyList
from .reference import Evaluator, evaluate, evaluate_constants, evaluator_of
from .specialize import parse_dims, parse_shapes, specialize
from .tensors import SparseTensor, Tensor
from .types import (
    UNKNOWN,
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseType,
    TensorType,
    Type,
    UnknownType,
)
from .verify import check_op, verify
from .widen import evaluate_wide, wide_op, wide_type, widen, widen_inside

__all__ = [
    "UNKNOWN",
    "Attribute",
    "Cost",
    "DType",
    "Dim",
    "EmptyList",
    "Emitted",
    "EvaluationError",
    "Evaluator",
    "Graph",
    "IrcError",
    "Limits",
    "Location",
    "MapType",
    "ModelError",
    "OnBytes",
    "Op",
    "OptionalType",
    "SequenceType",
    "SourceOrigin",
    "SparseTensor",
    "SparseType",
    "SymbolicDim",
    "Tensor",
    "TensorType",
    "Type",
    "UnknownType",
    "UnsupportedError",
    "UsageError",
    "Use",
    "Value",
    "VerifyError",
    "at",
    "capture",
    "check_op",
    "clone_closed",
    "clone_graph",
    "clone_op",
    "closest",
    "collector_paused",
    "trim_heap",
    "constant_op",
    "cost_of",
    "dialect",
    "dims",
    "emit",
    "evaluate",
    "evaluate_constants",
    "evaluate_wide",
    "evaluator_of",
    "infer",
    "make",
    "on_bytes",
    "parse_dims",
    "parse_origin",
    "parse_shapes",
    "plain_of",
    "refresh",
    "save_onnx",
    "schema",
    "shapes",
    "specialize",
    "to_model",
    "unsigned",
    "verify",
    "via",
    "wide_op",
    "wide_type",
    "widen",
    "widen_inside",
    "with_one_sign",
]
