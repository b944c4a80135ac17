# pyright: basic
"""What Keras 3 and TensorFlow write: `python -m tests.spellings.generate.keras_cases [NAME ...]`, in an environment of its own.

That environment holds tensorflow-cpu, keras and tf2onnx besides what irc needs. Models are exported by tf2onnx at opset 15
(`tf2onnx/`) and some by Keras's own `model.export(format="onnx")` (`keras/`), which asks tf2onnx too.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from .keras_core import KERAS, TF, Case, coarse, sequential, write_case
from .keras_models import (
    attend,
    attend_masked,
    attention_model,
    layer_norm,
    mobile_block,
    residual_block,
    squeeze_block,
    transformer_model,
)

VECTOR = ((2, 3, 8),)
SEQUENCE = {"shape": (5, 8)}
HEADS = ((1, 2, 5, 4), (1, 2, 3, 4), (1, 2, 3, 4))
CONV_TWO = "Conv=1, Transpose=2"
CASES = [
    Case(
        "conv2d",
        "Conv2D of NHWC with bias and ReLU",
        sequential(lambda: layers.Conv2D(4, 3, activation="relu")),
        expect="Conv=1, Relu=1, Transpose=2",
        at_most=4,
        sources=(TF, KERAS),
    ),
    Case(
        "conv2d-same",
        "Conv2D of NHWC, strided, SAME",
        sequential(lambda: layers.Conv2D(4, 3, strides=2, padding="same")),
        expect=CONV_TWO,
        gone="Pad",
        at_most=3,
    ),
    Case(
        "conv2d-chain",
        "two Conv2D with a ReLU, a pool and a batch norm: one transpose in, one out",
        sequential(
            lambda: layers.Conv2D(4, 3),
            lambda: layers.BatchNormalization(),
            lambda: layers.ReLU(),
            lambda: layers.MaxPooling2D(2),
            lambda: layers.Conv2D(2, 1),
        ),
        expect="Conv=2, Transpose=2, Relu=1, MaxPool=1",
        gone="BatchNormalization, Mul, Add",
        at_most=6,
        sources=(TF, KERAS),
    ),
    Case(
        "mobile-block",
        "ZeroPadding2D, DepthwiseConv2D, BatchNorm, ReLU6",
        mobile_block,
        expect="Conv=1, Clip=1, Transpose=2",
        gone="Pad, BatchNormalization, Mul, Add, Min, Max, Reshape",
        at_most=4,
        sources=(TF,),
    ),
    Case(
        "residual-block",
        "ResNet's block in NHWC",
        residual_block,
        expect="Conv=2, Relu=2, Add=1, Transpose=2",
        gone="BatchNormalization",
        at_most=7,
    ),
    Case(
        "squeeze-block",
        "squeeze and excitation with swish",
        squeeze_block,
        ((1, 6, 6, 4),),
        "Conv=2, Swish=1, Sigmoid=1",
        "",
        9,
    ),
    Case(
        "conv2d-transpose",
        "Conv2DTranspose",
        sequential(lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same")),
        expect="ConvTranspose=1, Transpose=2",
        gone="",
        at_most=4,
    ),
    Case(
        "conv1d",
        "Conv1D with causal padding: an image of height 1",
        sequential(lambda: layers.Conv1D(4, 3, padding="causal"), shape=(7, 3)),
        ((1, 7, 3),),
        "Conv=1, Transpose=2",
        "Pad, Unsqueeze, Squeeze",
        3,
    ),
    Case(
        "conv3d-bn",
        "Conv3D and BatchNorm",
        sequential(lambda: layers.Conv3D(2, 2), lambda: layers.BatchNormalization(), shape=(3, 3, 3, 2)),
        ((1, 3, 3, 3, 2),),
        "Conv=1, Transpose=2",
        "BatchNormalization, Mul, Add",
        3,
    ),
    Case(
        "global-pool-dense",
        "Conv2D, global average, Dense",
        sequential(lambda: layers.Conv2D(4, 3), lambda: layers.GlobalAveragePooling2D(), lambda: layers.Dense(2)),
        expect="Conv=1",
        at_most=5,
    ),
    Case(
        "layernorm",
        "LayerNormalization",
        sequential(lambda: layers.LayerNormalization(), shape=(3, 8)),
        ((1, 3, 8),),
        "LayerNormalization=1",
        "ReduceMean, Sub, Reshape",
        1,
        sources=(TF, KERAS),
    ),
    Case(
        "layernorm-moments",
        "LayerNorm by tf.nn.moments",
        lambda: layer_norm,
        VECTOR,
        "LayerNormalization=1",
        "ReduceMean, Sub",
        1,
    ),
    Case(
        "rmsnorm",
        "RMSNormalization",
        sequential(lambda: layers.RMSNormalization(), shape=(3, 8)),
        ((1, 3, 8),),
        "RMSNormalization=1",
        "ReduceMean, Sqrt",
        1,
    ),
    Case(
        "groupnorm",
        "GroupNormalization of NHWC",
        sequential(lambda: layers.GroupNormalization(2), shape=(3, 3, 4)),
        ((1, 3, 3, 4),),
        "GroupNormalization=1, Transpose=2",
        "ReduceMean, Sub",
        3,
    ),
    Case(
        "batchnorm-dense",
        "Dense and BatchNorm",
        sequential(lambda: layers.Dense(4), lambda: layers.BatchNormalization(), shape=(8,)),
        ((1, 8),),
        "Gemm=1",
        "BatchNormalization, Mul",
        1,
    ),
    Case(
        "gelu",
        "Gelu (erf) written out (tf.nn.gelu is Erfc, which tf2onnx leaves as it is)",
        lambda: lambda x: 0.5 * x * (1.0 + tf.math.erf(x / tf.sqrt(2.0))),
        VECTOR,
        "Gelu=1",
        "Erf",
        1,
    ),
    Case("gelu-tanh", "Gelu (tanh)", lambda: lambda x: tf.nn.gelu(x, approximate=True), VECTOR, "Gelu=1", "Tanh, Pow", 1),
    Case("swish", "swish", lambda: lambda x: tf.nn.silu(x), VECTOR, "Swish=1", "Sigmoid, Mul", 1),
    Case(
        "hard-swish",
        "hard_silu",
        lambda: lambda x: keras.activations.hard_silu(x),
        VECTOR,
        "HardSwish=1",
        "Clip, Relu, Min, Max, Mul",
        1,
    ),
    Case(
        "hard-sigmoid",
        "hard_sigmoid",
        lambda: lambda x: keras.activations.hard_sigmoid(x),
        VECTOR,
        "HardSigmoid=1",
        "Clip, Relu, Min, Max, Mul",
        1,
    ),
    Case("mish", "mish", lambda: lambda x: keras.activations.mish(x), VECTOR, "Mish=1", "Softplus, Tanh", 1),
    Case("relu6", "relu6", lambda: lambda x: tf.nn.relu6(x), VECTOR, "Clip=1", "Min, Max", 1),
    Case("leaky-relu", "LeakyReLU", lambda: lambda x: tf.nn.leaky_relu(x, 0.25), VECTOR, "LeakyRelu=1", "Max, Mul", 1),
    Case(
        "prelu",
        "PReLU with shared axes, written with negations",
        sequential(lambda: layers.PReLU(shared_axes=[1, 2]), shape=(3, 3, 4)),
        ((1, 3, 3, 4),),
        "PRelu=1",
        "Neg, Relu, Mul, Add",
        1,
    ),
    Case(
        "softmax-axis",
        "softmax over the channels of NHWC's axis 1",
        lambda: lambda x: tf.nn.softmax(x, axis=1),
        VECTOR,
        "Softmax=1",
        "Transpose",
        1,
    ),
    Case(
        "l2-normalize",
        "tf.math.l2_normalize: the square floored",
        lambda: lambda x: tf.math.l2_normalize(x, -1),
        VECTOR,
        "",
        "",
        5,
    ),
    Case(
        "multihead",
        "MultiHeadAttention: EinsumDense projections",
        attention_model,
        ((1, 5, 8),),
        "Attention=1",
        "Einsum, Softmax",
        14,
        sources=(TF, KERAS),
    ),
    Case(
        "transformer-block",
        "a transformer block",
        transformer_model,
        ((1, 5, 8),),
        "Attention=1, LayerNormalization=1, Gelu=1",
        "Einsum, Softmax, Tanh",
        22,
    ),
    Case("attention", "attention, divided by a computed root", lambda: attend, HEADS, "Attention=1", "Softmax, MatMul", 1),
    Case(
        "attention-mask",
        "attention, mask · -1e9 added",
        lambda: attend_masked,
        (*HEADS, (1, 1, 1, 3)),
        "",
        "",
        None,
        hope="Attention=1",
        corner="mask · -1e9 overflows to -Inf for huge masks; a row of those is NaN here and 0 by Attention",
    ),
    Case(
        "depth-to-space",
        "tf.nn.depth_to_space of NHWC",
        lambda: lambda x: tf.nn.depth_to_space(x, 2),
        ((1, 2, 3, 8),),
        "DepthToSpace=1, Transpose=2",
        "",
        3,
    ),
    Case(
        "space-to-depth-conv",
        "space_to_depth and a convolution",
        lambda: (
            lambda x: tf.nn.conv2d(
                tf.nn.space_to_depth(x, 2), tf.constant(coarse(np.random.default_rng(1), (1, 1, 8, 3))), 1, "VALID"
            )
        ),
        ((1, 4, 6, 2),),
        "SpaceToDepth=1, Conv=1, Transpose=2",
        "",
        4,
    ),
    Case(
        "resize-bilinear",
        "tf.image.resize of NHWC",
        lambda: lambda x: tf.image.resize(x, (8, 10)),
        ((1, 4, 5, 3),),
        "Resize=1",
        "Slice, Concat",
        3,
    ),
    Case(
        "upsampling-nearest", "UpSampling2D", sequential(lambda: layers.UpSampling2D(2)), expect="Resize=1", gone="", at_most=3
    ),
    Case(
        "strided-slice",
        "x[:, ::2, 1:-1] and new axes",
        lambda: lambda x: x[:, ::2, 1:-1][:, None, :, 0],
        ((2, 5, 6, 3),),
        "Slice=1, Gather=1",
        "Squeeze",
        4,
    ),
    Case("one-hot", "tf.one_hot", lambda: lambda x: tf.one_hot(tf.cast(x, tf.int32), 4), ((2, 3),), "OneHot=1, Cast=1", "", 2),
    Case(
        "einsum-dense",
        "EinsumDense abc,cde->abde",
        lambda: lambda x: tf.einsum("abc,cde->abde", x, tf.constant(coarse(np.random.default_rng(2), (8, 2, 3)))),
        VECTOR,
        "MatMul=1",
        "Einsum",
        2,
    ),
    Case(
        "matmul-transposed",
        "tf.matmul(a, b, transpose_a, transpose_b)",
        lambda: lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True),
        ((4, 3), (5, 4)),
        "Gemm=1",
        "Transpose, MatMul",
        1,
    ),
    Case("mean-std", "reduce_std", lambda: lambda x: tf.math.reduce_std(x, -1), VECTOR, "", "", 5),
    Case(
        "lstm",
        "LSTM",
        sequential(lambda: layers.LSTM(3, return_sequences=True), shape=(4, 2)),
        ((1, 4, 2),),
        "LSTM=1",
        "Loop, Scan",
        8,
    ),
    Case(
        "glu",
        "halves by tf.split and a sigmoid",
        lambda: lambda x: tf.multiply(*(f(t) for f, t in zip((tf.identity, tf.sigmoid), tf.split(x, 2, -1), strict=True))),
        VECTOR,
        "Split=1, Sigmoid=1, Mul=1",
        "",
        3,
    ),
]

if __name__ == "__main__":
    for one in CASES:
        if len(sys.argv) == 1 or any(part in one.name for part in sys.argv[1:]):
            write_case(one)
