# pyright: basic
"""The models and functions of `keras_cases.py` that take more than a line."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

B8, W8 = (np.arange(8) / 8 - 0.5).astype(np.float32), (np.arange(8) / 8 + 0.5).astype(np.float32)


def attention_model() -> Any:
    """keras.layers.MultiHeadAttention on itself."""
    x = keras.Input((5, 8), batch_size=1)
    return keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x))


def transformer_model() -> Any:
    """A block: attention, residual, norm, feed-forward with Gelu (tanh)."""
    x = keras.Input((5, 8), batch_size=1)
    y = layers.LayerNormalization(epsilon=1e-6)(x + layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(x, y + layers.Dense(8)(layers.Dense(8, activation=lambda z: tf.nn.gelu(z, approximate=True))(y)))


def attend(q: Any, k: Any, v: Any) -> Any:
    """Attention of TensorFlow's tutorial: logits divided by the root of the depth."""
    depth = tf.cast(tf.shape(k)[-1], tf.float32)
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / tf.math.sqrt(depth)), v)


def attend_masked(q: Any, k: Any, v: Any, m: Any) -> Any:
    """The same with mask · -1e9 added."""
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.5 + m * -1e9), v)


def layer_norm(x: Any) -> Any:
    """tf.nn.moments and batch_normalization, as old BERT code has it."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, tf.constant(B8), tf.constant(W8), 1e-12)


def mobile_block() -> Any:
    """ZeroPadding2D, depthwise convolution, batch norm, ReLU6 (MobileNet)."""
    x = keras.Input((6, 6, 3), batch_size=1)
    y = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides=2, use_bias=False)(y))
    return keras.Model(x, layers.ReLU(6.0)(y))


def residual_block() -> Any:
    """Two convolutions with batch norms and a residual (ResNet), all NHWC."""
    x = keras.Input((6, 6, 3), batch_size=1)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(y))
    return keras.Model(x, layers.ReLU()(x + y))


def squeeze_block() -> Any:
    """Squeeze and excitation with swish (EfficientNet)."""
    x = keras.Input((6, 6, 4), batch_size=1)
    s = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(x))
    s = layers.Conv2D(4, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="swish")(s))
    return keras.Model(x, x * s)
