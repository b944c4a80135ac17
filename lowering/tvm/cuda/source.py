"""CUDA C as it is compiled: TVM's kernels behind a prelude of ours, with functions that mean what ONNX means.

Law: nothing is included, so NVRTC needs no headers. f32 is computed as f32: TVM writes CUDA's fast functions, whose errors grow
with their arguments, and minima and maxima that drop NaN; ours do neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PRELUDE = """\
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#endif
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN __longlong_as_double(0x7fffffffffffffffll)
template <typename T> __device__ inline T irc_max(T a, T b) { return a >= b || a != a ? a : b; }
template <typename T> __device__ inline T irc_min(T a, T b) { return a <= b || a != a ? a : b; }
"""
"""What is in front of all kernels: widths of integers, and a maximum and a minimum of which NaN is the result if either is."""

_KERNEL = re.compile(r'^extern "C" __global__', re.MULTILINE)
_FAST = re.compile(r"\b__(exp|exp10|log|log2|log10|sin|cos|tan|pow)f\(")
_ORDERED = re.compile(r"\b(max|min)\(")
_START = re.compile(r"(_ptr\[[^\]=;]*\] = )(-?)0x1\.fffffep\+127f[^;]*;")
_DECLARED = re.compile(r'^extern "C" __global__ [^;{]*;\n', re.MULTILINE)


def cleaned(generated: str) -> str:
    """The kernels in what TVM writes, without its own prelude."""
    first = _KERNEL.search(generated)
    kernels = generated[first.start() :] if first else ""
    kernels = _DECLARED.sub("", kernels)
    kernels = _START.sub(r"\1\2CUDART_INF_F;", kernels)  # maxima start there, and of infinities alone they are infinite
    return _ORDERED.sub(r"irc_\1(", _FAST.sub(r"\1f(", kernels)).strip() + "\n"


def whole(kernels: Iterable[str]) -> str:
    """The source of a program with these kernels, each as `cleaned` gives it."""
    return "\n".join([PRELUDE, *kernels])


__all__ = ["PRELUDE", "cleaned", "whole"]
