"""What sort of work an op does, which is the colour of its box."""

from __future__ import annotations

from enum import Enum

from irc.ir import Op


class Kind(Enum):
    """A sort of op: its key in the page's data and style sheet, and its name in the legend."""

    CONTRACTION = ("contraction", "Contraction")
    NORMALIZATION = ("normalization", "Normalization")
    ELEMENTWISE = ("elementwise", "Elementwise")
    REDUCTION = ("reduction", "Reduction")
    MOVEMENT = ("movement", "Data movement")
    QUANTIZATION = ("quantization", "Quantization")
    CONTROL = ("control", "Control flow")
    CONSTANT_FED = ("constant-fed", "Fed by constants only")
    CUSTOM = ("custom", "Other domains")
    OTHER = ("other", "Other")
    CONSTANT = ("constant", "Constant")

    def __init__(self, key: str, label: str) -> None:
        self.key = key
        self.label = label


_NAMES = {
    Kind.CONTRACTION: """
        Attention CausalConvWithState
        Conv ConvInteger ConvTranspose DFT DeformConv Det Einsum FlexAttention GRU Gemm LSTM
        LinearAttention MatMul MatMulInteger QLinearConv QLinearMatMul RNN STFT
    """,
    Kind.NORMALIZATION: """
        BatchNormalization GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization LogSoftmax
        LpNormalization MeanVarianceNormalization RMSNormalization Softmax
    """,
    Kind.ELEMENTWISE: """
        Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast
        CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
        HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal
        Relu RotaryEmbedding Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan
        Tanh ThresholdedRelu Where Xor
    """,
    Kind.REDUCTION: """
        ArgMax ArgMin AveragePool CumProd CumSum GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool
        NegativeLogLikelihoodLoss NonMaxSuppression ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
        ReduceMin ReduceProd ReduceSum ReduceSumSquare RoiAlign SoftmaxCrossEntropyLoss TopK Unique
    """,
    Kind.MOVEMENT: """
        AffineGrid CenterCropPad Col2Im Compress Concat ConcatFromSequence ConstantOfShape DepthToSpace Expand EyeLike
        Flatten Gather GatherElements GatherND GridSample Identity MaxUnpool NonZero OneHot Optional OptionalGetElement
        OptionalHasElement Pad Range Reshape Resize ReverseSequence Scatter ScatterElements ScatterND SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split
        SplitToSequence Squeeze TensorScatter Tile Transpose Trilu Unsqueeze Upsample
    """,
    Kind.QUANTIZATION: "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    Kind.CONTROL: "If Loop Scan SequenceMap",
}
_BY_NAME = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def kind_of(op: Op) -> Kind:
    """What sort of work an op does, going by its name alone."""
    if op.is_constant:
        return Kind.CONSTANT
    if op.bodies:
        return Kind.CONTROL
    if op.domain == "ai.onnx.ml":
        return Kind.OTHER
    return Kind.CUSTOM if op.domain else _BY_NAME.get(op.name, Kind.OTHER)
