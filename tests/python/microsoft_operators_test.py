#!/usr/bin/env python3
"""Operators of com.microsoft, alone and in models as ONNX Runtime's tools write them, agree with ONNX Runtime.

usage: microsoft_operators_test.py --build FOLDER [--only TEXT] [--verbose]

Each model runs by the reference evaluation, which takes the operators as they are; as a plan, where the
portable passes have replaced them; and in ONNX Runtime again after these passes, as plain ONNX.
"""
import argparse
import logging
import pathlib
import sys

import numpy as np
import onnx
import onnx.reference  # before ONNX Runtime, see roads.py
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "differential")]
import models  # noqa: E402
import ort_util  # noqa: E402
import roads  # noqa: E402

ort = ort_util.ImportOnnxRuntime()
MS = "com.microsoft"
FLOAT_TOLERANCE = 1e-4  # of the largest expected magnitude
HALF_TOLERANCE = 4e-3   # f16: sums are rounded in another order
rng = np.random.default_rng(3)


def F(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def Q(dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def S(value, dtype=np.float32):
    return np.array(value, dtype)


class Constant:
    """An input that the model holds as an initializer."""

    def __init__(self, value):
        self.value = value


# --- cases ---------------------------------------------------------------------------------------


def MakeModel(op, inputs, attributes, outputs, domain, opset, symbolic):
    """One node; `outputs` lists element types, None for an absent output. Returns (model, feeds)."""
    names, feeds, infos, weights = [], {}, [], []
    for i, value in enumerate(inputs):
        names.append("" if value is None else f"x{i}")
        if isinstance(value, Constant):
            weights.append(value.value if isinstance(value.value, onnx.TensorProto)
                           else numpy_helper.from_array(value.value, f"x{i}"))
            weights[-1].name = f"x{i}"
        elif value is not None:
            feeds[f"x{i}"] = value
            shape = [f"d{i}_{k}" for k in range(value.ndim)] if symbolic else list(value.shape)
            infos.append(helper.make_tensor_value_info(
                f"x{i}", helper.np_dtype_to_tensor_dtype(value.dtype), shape))
    results = ["" if t is None else f"y{i}" for i, t in enumerate(outputs)]
    node = helper.make_node(op, names, results, name="tested", domain=domain, **attributes)
    graph = helper.make_graph(
        [node], "case", infos,
        [helper.make_tensor_value_info(f"y{i}", t, None) for i, t in enumerate(outputs) if t is not None], weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 19 else 10), feeds


CASES = []


def Case(name, op, inputs, outputs=(TensorProto.FLOAT,), domain=MS, opset=17, symbolic=False, equal=0.9,
         tolerance=FLOAT_TOLERANCE, node_opset=None, **attributes):
    if node_opset is not None:  # the one attribute that is named like a parameter
        attributes["opset"] = node_opset
    CASES.append((name, MakeModel(op, inputs, attributes, outputs, domain, opset, symbolic), tolerance, equal))


def Activations():
    x, bias = F(2, 3, 8, scale=2), F(8)
    for opset in (11, 17, 21):
        Case(f"Gelu opset {opset}", "Gelu", [x], opset=opset)
    Case("BiasGelu", "BiasGelu", [x, bias])
    Case("FastGelu", "FastGelu", [x], tolerance=1e-5)  # the other Gelu is 1e-4 away
    Case("FastGelu bias", "FastGelu", [x, bias], symbolic=True)
    Case("QuickGelu", "QuickGelu", [x])
    Case("QuickGelu alpha", "QuickGelu", [x], alpha=0.7)


def Norms():
    x, skip, gamma, beta, bias = F(2, 3, 8), F(2, 3, 8), F(8), F(8), F(8)
    Case("LayerNormalization before 17", "LayerNormalization", [x, gamma, beta], domain="", opset=12, axis=-1)
    Case("LayerNormalization axis 1", "LayerNormalization", [x, F(3, 8), F(3, 8)], domain="", opset=13, axis=1)
    Case("SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x, gamma], domain="", axis=-1,
         epsilon=1e-3)
    Case("SimplifiedLayerNormalization axis 1", "SimplifiedLayerNormalization", [x, F(3, 8)], domain="", axis=1)
    half = lambda a: a.astype(np.float16)
    f16 = TensorProto.FLOAT16
    Case("SimplifiedLayerNormalization f16", "SimplifiedLayerNormalization", [half(x), half(gamma)], [f16], domain="",
         tolerance=HALF_TOLERANCE, axis=-1)
    Case("SkipLayerNormalization", "SkipLayerNormalization", [x, skip, gamma, beta], epsilon=1e-5)
    Case("SkipLayerNormalization bias", "SkipLayerNormalization", [x, skip, gamma, beta, bias], symbolic=True)
    Case("SkipLayerNormalization no beta", "SkipLayerNormalization", [x, skip, gamma, None, bias])
    Case("SkipLayerNormalization sum", "SkipLayerNormalization", [x, skip, gamma, beta, bias],
         [TensorProto.FLOAT, None, None, TensorProto.FLOAT])
    Case("SkipLayerNormalization broadcast", "SkipLayerNormalization", [x, F(1, 3, 8), gamma, beta])
    Case("SkipLayerNormalization f16", "SkipLayerNormalization", [half(v) for v in (x, skip, gamma, beta)], [f16],
         tolerance=HALF_TOLERANCE)
    Case("SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [x, skip, gamma, bias],
         [TensorProto.FLOAT, None, None, TensorProto.FLOAT], epsilon=1e-6)
    ids, segments = rng.integers(0, 10, (2, 3)).astype(np.int32), rng.integers(0, 2, (2, 3)).astype(np.int32)
    mask = S([[1, 1, 0], [1, 1, 1]], np.int32)
    words, positions, kinds = F(10, 8), F(5, 8), F(2, 8)
    two = [TensorProto.FLOAT, TensorProto.INT32]
    Case("EmbedLayerNormalization", "EmbedLayerNormalization",
         [ids, segments, words, positions, kinds, gamma, beta, mask], two)
    Case("EmbedLayerNormalization sum", "EmbedLayerNormalization",
         [ids, None, words, positions, None, gamma, beta], two + [TensorProto.FLOAT])
    Case("EmbedLayerNormalization position ids", "EmbedLayerNormalization",
         [ids, segments, words, positions, kinds, gamma, beta, None, S([[2, 0, 4]], np.int32)], two)
    tables = [words, positions, kinds, gamma, beta]
    scale, zero = S(0.02), S(128, np.uint8)
    narrow = [np.clip(np.round(t / 0.02) + 128, 0, 255).astype(np.uint8) for t in tables]
    Case("QEmbedLayerNormalization", "QEmbedLayerNormalization",
         [ids, segments, *narrow, mask] + [scale] * 5 + [zero] * 5, two)


def Products():
    for transpose_a in (0, 1):
        for transpose_b in (0, 1):
            a = F(2, 5, 3) if transpose_a else F(2, 3, 5)
            b = F(2, 4, 5) if transpose_b else F(2, 5, 4)
            Case(f"FusedMatMul {transpose_a}{transpose_b}", "FusedMatMul", [a, b], transA=transpose_a,
                 transB=transpose_b, alpha=0.5)
    Case("FusedMatMul batch axes", "FusedMatMul", [F(3, 2, 6, 5), F(4, 2, 6, 5)], transBatchA=1, transBatchB=1,
         transB=1)
    Case("FusedMatMul batch and transposed", "FusedMatMul", [F(5, 2, 6, 3), F(2, 6, 5, 4)], transBatchA=1, transA=1)
    Case("FusedMatMul weights", "FusedMatMul", [F(2, 3, 5), Constant(F(4, 5))], transB=1, alpha=2.0, symbolic=True)
    Case("TransposeMatMul", "TransposeMatMul", [F(5, 3), F(5, 4)], transA=1, alpha=0.25)
    for activation, parameters in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.3}), ("Tanh", {}), ("Sigmoid", {}),
                                   ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
                                   ("Elu", {"activation_alpha": 0.5}), ("Softplus", {}), ("Softsign", {}),
                                   ("Selu", {"activation_alpha": 1.5, "activation_gamma": 1.1}),
                                   ("ThresholdedRelu", {"activation_alpha": 0.3})):
        Case(f"FusedGemm {activation}", "FusedGemm", [F(3, 5), Constant(F(4, 5)), Constant(F(4))], transB=1, alpha=0.5,
             beta=2.0, activation=activation, **parameters)
    for activation, parameters in (("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]),
                                   ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.3, 0.4])):
        extra = {} if parameters is None else {"activation_params": parameters}
        Case(f"FusedConv {activation}", "FusedConv", [F(1, 4, 7, 7), Constant(F(6, 2, 3, 3)), Constant(F(6))], group=2,
             pads=[1, 1, 1, 1], strides=[2, 2], activation=activation, **extra)
    Case("FusedConv sum", "FusedConv", [F(1, 4, 6, 6), Constant(F(4, 4, 3, 3)), Constant(F(4)), F(1, 4, 6, 6)],
         auto_pad=b"SAME_UPPER", activation="Relu")
    Case("MatMulInteger16", "MatMulInteger16", [Q(np.int16, 3, 5), Q(np.int16, 5, 4)], [TensorProto.INT32])


def Attentions():
    b, s, d, heads, p = 2, 5, 16, 4, 3
    x, w, bias = F(b, s, d), Constant(F(d, 3 * d, scale=0.3)), Constant(F(3 * d))
    left = S([4, 5, 1, 0], np.int32)
    raw = S([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    masks = {"no mask": None, "ends": S([3, 5], np.int32), "ends and starts": left, "raw": raw,
             "3-D": rng.integers(0, 2, (b, s, s)).astype(np.int32)}
    for name, mask in masks.items():
        for causal in (0, 1):
            Case(f"Attention {name} causal {causal}", "Attention", [x, w, bias, mask], num_heads=heads,
                 unidirectional=causal)
    Case("Attention symbolic", "Attention", [x, w, bias, raw], num_heads=heads, symbolic=True)
    Case("Attention scale, filter", "Attention", [x, w, bias, raw], num_heads=heads, scale=0.3,
         mask_filter_value=-2.0)
    Case("Attention sizes", "Attention", [x, Constant(F(d, 16 + 16 + 24)), Constant(F(56))], num_heads=heads,
         qkv_hidden_sizes=[16, 16, 24])
    two = [TensorProto.FLOAT] * 2
    past = F(2, b, heads, p, d // heads)
    Case("Attention past", "Attention", [x, w, bias, None, past], two, num_heads=heads, unidirectional=1)
    Case("Attention past, one token", "Attention", [x[:, :1], w, bias, None, past], two, num_heads=heads,
         unidirectional=1, symbolic=True)
    Case("Attention bias", "Attention", [x, w, bias, None, None, F(1, heads, s, s)], num_heads=heads)
    Case("Attention present", "Attention", [x, w, bias], two, num_heads=heads)
    narrow = [Q(np.uint8, b, s, d), Constant(Q(np.int8, d, 3 * d)), bias, Constant(S(0.01)), Constant(S(0.004)), raw,
              Constant(S(120, np.uint8)), Constant(S(3, np.int8))]
    Case("QAttention", "QAttention", narrow, num_heads=heads)
    narrow[4] = Constant(rng.uniform(0.002, 0.006, 3 * d).astype(np.float32))
    narrow[7] = Constant(np.zeros(3 * d, np.int8))
    Case("QAttention per column, causal", "QAttention", narrow[:5] + [None] + narrow[6:], num_heads=heads,
         unidirectional=1)

    l, dv = 7, 24
    q, k, v = F(b, s, d), F(b, l, d), F(b, l, dv)
    three = [TensorProto.FLOAT] * 3
    Case("MultiHeadAttention", "MultiHeadAttention", [q, k, v], num_heads=heads)
    Case("MultiHeadAttention bias", "MultiHeadAttention", [q, k, v, F(2 * d + dv)], num_heads=heads, symbolic=True)
    Case("MultiHeadAttention padding", "MultiHeadAttention",
         [q, k, v, None, rng.integers(0, 2, (b, l)).astype(np.int32)], num_heads=heads)
    Case("MultiHeadAttention ends", "MultiHeadAttention", [q, k, v, None, S([4, 7], np.int32)], num_heads=heads,
         scale=0.2)
    Case("MultiHeadAttention attention bias", "MultiHeadAttention", [q, k, v, None, None, F(1, heads, s, l)],
         num_heads=heads)
    Case("MultiHeadAttention causal", "MultiHeadAttention", [q, F(b, s, d), F(b, s, d)], num_heads=heads,
         unidirectional=1)
    h = d // heads
    Case("MultiHeadAttention past", "MultiHeadAttention",
         [q, F(b, s, d), F(b, s, d), None, None, None, F(b, heads, p, h), F(b, heads, p, h)], three, num_heads=heads)
    Case("MultiHeadAttention past causal", "MultiHeadAttention",
         [q, F(b, s, d), F(b, s, d), None, None, None, F(b, heads, p, h), F(b, heads, p, h)], three, num_heads=heads,
         unidirectional=1)
    Case("MultiHeadAttention split keys", "MultiHeadAttention", [q, F(b, heads, l, h), F(b, heads, l, h)],
         num_heads=heads)


def Quantized(dtype):
    name = np.dtype(dtype).name
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = Q(dtype, 2, 6, 5, 5), Q(dtype, 2, 6, 5, 5)
    sx, sy, so = Constant(S(0.03)), Constant(S(0.02)), Constant(S(0.05))
    zx, zy, zo = (Constant(S(v + np.iinfo(dtype).min, dtype)) for v in (120, 131, 140))
    tail = [so, zo]
    for op in ("QLinearAdd", "QLinearMul"):
        Case(f"{op} {name}", op, [x, sx, zx, y, sy, zy] + tail, [code])
        Case(f"{op} {name} broadcast", op, [x, sx, zx, Q(dtype, 6, 1, 1), sy, zy] + tail, [code])
    Case(f"QLinearSigmoid {name}", "QLinearSigmoid", [x, sx, zx, Constant(S(1 / 256)),
                                                      Constant(S(np.iinfo(dtype).min, dtype))], [code])
    Case(f"QLinearLeakyRelu {name}", "QLinearLeakyRelu", [x, sx, zx] + tail, [code], alpha=0.2)
    Case(f"QLinearGlobalAveragePool {name}", "QLinearGlobalAveragePool", [x, sx, zx] + tail, [code])
    Case(f"QLinearGlobalAveragePool {name} channels last", "QLinearGlobalAveragePool", [x, sx, zx] + tail, [code],
         channels_last=1)
    for last in (0, 1):
        Case(f"QLinearAveragePool {name} channels last {last}", "QLinearAveragePool", [x, sx, zx] + tail, [code],
             kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=last, channels_last=last)
    Case(f"NhwcMaxPool {name}", "NhwcMaxPool", [x], [code], kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0])
    Case(f"QLinearConcat {name}", "QLinearConcat", [so, zo, x, sx, zx, y, sy, zy], [code], axis=1)
    Case(f"QLinearWhere {name}", "QLinearWhere", [rng.random((2, 6, 5, 5)) > 0.5, x, sx, zx, y, sy, zy] + tail, [code])
    for opset, axis in ((13, -1), (13, 1), (11, 2)):
        Case(f"QLinearSoftmax {name} opset {opset} axis {axis}", "QLinearSoftmax",
             [x, sx, zx, Constant(S(1 / 256)), Constant(S(np.iinfo(dtype).min, dtype))], [code], axis=axis, node_opset=opset)
    weights = Q(np.int8, 8, 3, 3, 3)
    scales = Constant(rng.uniform(0.005, 0.01, 8).astype(np.float32))
    zeros, bias = Constant(np.zeros(8, np.int8)), Constant(rng.integers(-3000, 3000, 8).astype(np.int32))
    big = Constant(S(0.2))
    conv = dict(group=2, pads=[1, 1, 1, 1], strides=[2, 2])
    for domain, last in (("", 0), (MS, 0), (MS, 1)):
        data = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x
        extra = {"channels_last": last} if domain else {}
        Case(f"QLinearConv {name} '{domain}' channels last {last}", "QLinearConv",
             [data, sx, zx, Constant(weights), scales, zeros, big, zo, bias], [code], domain=domain, **conv, **extra)
    Case(f"QLinearMatMul {name}", "QLinearMatMul",
         [Q(dtype, 2, 3, 7), sx, zx, Constant(Q(np.int8, 7, 8)), scales, zeros, big, zo], [code], domain="")
    a, b = Q(dtype, 3, 6), Constant(Q(np.int8, 8, 6))
    Case(f"QGemm {name}", "QGemm", [a, sx, zx, b, scales, zeros, bias, big, zo], [code], transB=1, alpha=0.5)
    Case(f"QGemm {name} to float", "QGemm", [a, sx, zx, b, Constant(S(0.01)), Constant(S(0, np.int8)), bias], transB=1)
    Case(f"QGemm {name} transposed", "QGemm",
         [Q(dtype, 6, 3), sx, zx, Constant(Q(np.int8, 6, 8)), scales, zeros, None, big, zo], [code], transA=1)


def IntegerProducts():
    a, b = F(3, 6), Constant(Q(np.int8, 6, 8))
    scales, bias = Constant(rng.uniform(0.005, 0.01, 8).astype(np.float32)), Constant(F(8))
    scale, zero = Constant(S(0.01)), Constant(S(4, np.int8))
    loose = dict(tolerance=2e-3)  # a tie in the input's rounding is one step of 8 bits
    Case("DynamicQuantizeMatMul", "DynamicQuantizeMatMul", [a, b, scale, zero, bias], **loose)
    Case("DynamicQuantizeMatMul per column", "DynamicQuantizeMatMul", [F(2, 3, 6), b, scales], **loose)
    Case("DynamicQuantizeMatMul u8", "DynamicQuantizeMatMul",
         [a, Constant(Q(np.uint8, 6, 8)), scale, Constant(S(100, np.uint8))], symbolic=True, **loose)
    narrow = [Q(np.uint8, 3, 6), b, Constant(S(0.02)), scale]
    Case("MatMulIntegerToFloat", "MatMulIntegerToFloat", narrow + [Constant(S(100, np.uint8)), zero, bias])
    Case("MatMulIntegerToFloat per column", "MatMulIntegerToFloat",
         [Q(np.int8, 2, 3, 6), b, Constant(S(0.02)), scales, Constant(S(9, np.int8)), None, bias])
    Case("MatMulIntegerToFloat no zero points", "MatMulIntegerToFloat", narrow)
    x, hidden = F(4, 2, 5), 6
    for direction, n in (("forward", 1), ("bidirectional", 2)):
        w, r = Q(np.int8, n, 5, 4 * hidden), Q(np.int8, n, hidden, 4 * hidden)
        Case(f"DynamicQuantizeLSTM {direction}", "DynamicQuantizeLSTM",
             [x, Constant(w), Constant(r), Constant(F(n, 8 * hidden)), None, None, None, None,
              Constant(np.full(n, 0.004, np.float32)), Constant(np.full(n, 3, np.int8)),
              Constant(np.full(n, 0.005, np.float32)), Constant(np.full(n, -2, np.int8))], [TensorProto.FLOAT] * 3,
             hidden_size=hidden, direction=direction, tolerance=0.03)


def NBits():
    bits = 4  # of 8 ONNX Runtime's CPU has no kernel: tests/unit/ops/composite_test.cc
    for k, n, block in ((64, 24, 16), (70, 9, 32), (128, 16, 128)):
        blocks = -(-k // block)
        packed = Constant(Q(np.uint8, n, blocks, block * bits // 8))
        scales = Constant(rng.uniform(0.01, 0.05, n * blocks).astype(np.float32))
        zeros = Constant(Q(np.uint8, n * -(-blocks * bits // 8)))
        name = f"MatMulNBits {bits} bits, {k} to {n} in blocks of {block}"
        sizes = dict(K=k, N=n, block_size=block, bits=bits)
        x = F(2, 3, k)
        Case(name, "MatMulNBits", [x, packed, scales], **sizes)
        Case(name + ", zero points", "MatMulNBits", [x, packed, scales, zeros], symbolic=True, **sizes)
        Case(name + ", bias", "MatMulNBits", [x, packed, scales, None, None, Constant(F(n))], **sizes)
    floats = Constant((8 + F(9 * 3)).astype(np.float32))
    Case("MatMulNBits float zero points", "MatMulNBits",
         [F(3, 70), Constant(Q(np.uint8, 9, 3, 16)), Constant(rng.uniform(0.01, 0.05, 27).astype(np.float32)), floats],
         K=70, N=9, block_size=32, bits=4)


def Packed4(code, values):
    """A constant of 4-bit integers; numpy has no type for them."""
    return Constant(helper.make_tensor("x", code, values.shape, values.flatten().tolist()))


def Conversions():
    x, scales = F(3, 4, 5), Constant(rng.uniform(0.01, 0.05, 4).astype(np.float32))
    for dtype in (np.uint8, np.int8, np.uint16, np.int16):
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        zeros, name = Constant(Q(dtype, 4)), np.dtype(dtype).name
        Case(f"QuantizeLinear {name}", "QuantizeLinear", [x, Constant(S(0.02)), Constant(S(7, dtype))], [code])
        Case(f"QuantizeLinear {name} axis", "QuantizeLinear", [x, scales, zeros], [code], axis=1)
        Case(f"DequantizeLinear {name}", "DequantizeLinear", [Q(dtype, 3, 4), Constant(S(0.02)), Constant(S(7, dtype))])
        Case(f"DequantizeLinear {name} axis", "DequantizeLinear", [Q(dtype, 3, 4), scales, zeros], axis=1)
    for code, low in ((TensorProto.INT4, -8), (TensorProto.UINT4, 0)):
        q, z = (Packed4(code, rng.integers(low, low + 16, s)) for s in ((3, 4), (4,)))
        Case(f"DequantizeLinear {code} axis", "DequantizeLinear", [q, scales, z], axis=1, opset=21)


# --- models as the tools write them --------------------------------------------------------------


def SmallEncoder(b, x):
    """Two layers of BERT: post-norm, 4 heads on 32 channels."""
    d = 32
    for _ in range(2):
        q, k, v = (b.ReshapeLike(b.Linear(x, d, d), x, 4, 8) for _ in range(3))
        y = b.Attend(b.Node("Transpose", [q], perm=[0, 2, 1, 3]), b.Node("Transpose", [k], perm=[0, 2, 3, 1]),
                     b.Node("Transpose", [v], perm=[0, 2, 1, 3]))
        y = b.Linear(b.ReshapeLike(y, y, d), d, d)
        x = b.LayerNorm(b.Node("Add", [y, x]), d, 1e-12)
        x = b.LayerNorm(b.Node("Add", [b.FeedForward(x, d, 64), x]), d, 1e-12)
    return x


def SmallResnet(b, x):
    x = b.ConvNormAct(x, 3, 8, 3, 2)
    x = b.Node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stride in (1, 2):
        y = b.ConvNormAct(x, 8, 8, 3, stride, act="relu6" if stride == 2 else "relu")
        y = b.ConvNormAct(y, 8, 8, 3, act="none")
        skip = x if stride == 1 else b.ConvNormAct(x, 8, 8, 1, 2, act="none")
        x = b.Activate(b.Node("Add", [y, skip]), "relu")
    x = b.Activate(b.Conv(x, 8, 8, 1, bias=True), "sigmoid")
    x = b.Node("Concat", [x, b.Node("LeakyRelu", [x], alpha=0.1)], axis=1)
    return b.PooledHead(x, 16, 10)


def Build(network, shape):
    models.MODELS["small"] = (network, shape)
    return models.Build("small")


def SmallLstm():
    hidden, weights = 12, lambda *s: F(*s, scale=0.3)
    initializers = [numpy_helper.from_array(weights(1, 4 * hidden, 8), "w"),
                    numpy_helper.from_array(weights(1, 4 * hidden, hidden), "r"),
                    numpy_helper.from_array(weights(1, 8 * hidden), "b")]
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["input", "w", "r", "b"], ["output"], hidden_size=hidden)], "lstm",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [6, "N", 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [6, 1, "N", hidden])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def Optimized(path, level):
    """What ONNX Runtime saves after its own optimization."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path.with_suffix(f".{level.name}.onnx"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return pathlib.Path(options.optimized_model_filepath)


def ToolModels(folder):
    """Yields (name, path, feeds, tolerance relative to the largest output, operators that must be there)."""
    quantization = ort_util.ImportQuantization()
    extended = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    every = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    integers = 0.08  # roundings that fell on the other side of a tie, through all layers

    class Samples(quantization.CalibrationDataReader):
        def __init__(self, shape):
            self.left = [{"input": F(1, *shape)} for _ in range(4)]

        def get_next(self):
            return self.left.pop() if self.left else None

    for name, network, shape in (("encoder", SmallEncoder, (6, 32)), ("resnet", SmallResnet, (3, 32, 32))):
        feeds = {"input": F(2, *shape)}
        plain = folder / f"{name}.onnx"
        onnx.save(Build(network, shape), plain)
        fused = {"encoder": {"BiasGelu", "FusedMatMul"}, "resnet": {"FusedConv"}}[name]
        yield f"{name} optimized", Optimized(plain, extended), feeds, FLOAT_TOLERANCE, fused
        plain = Optimized(plain, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)  # folds BatchNormalization
        for kind in ("QDQ", "QOperator"):
            path = folder / f"{name}_{kind}.onnx"
            # Seven bits for weights: ONNX Runtime's kernels saturate on CPUs without VNNI.
            quantization.quantize_static(plain, path, Samples(shape), per_channel=True, reduce_range=True,
                                         quant_format=quantization.QuantFormat[kind],
                                         weight_type=quantization.QuantType.QInt8)
            wanted = {"QOperator": {"encoder": {"QLinearAdd"}, "resnet": {"QLinearAdd", "QGemm", "QLinearConcat"}},
                      "QDQ": {"encoder": set(), "resnet": set()}}[kind][name]
            yield f"{name} {kind}", path, feeds, integers, wanted
            yield f"{name} {kind} optimized", Optimized(path, extended), feeds, integers, set()
            yield f"{name} {kind} all optimizations", Optimized(path, every), feeds, integers, set()
        path = folder / f"{name}_dynamic.onnx"
        kind = {"encoder": "QInt8", "resnet": "QUInt8"}[name]  # all that ConvInteger has a kernel for
        quantization.quantize_dynamic(plain, path, weight_type=quantization.QuantType[kind], reduce_range=True)
        yield f"{name} dynamic", path, feeds, integers, set()
        wanted = {"encoder": {"DynamicQuantizeMatMul", "SkipLayerNormalization"}, "resnet": set()}[name]
        yield f"{name} dynamic optimized", Optimized(path, extended), feeds, integers, wanted
        if name == "encoder":
            yield from TransformerTools(folder, quantization, plain, feeds)
    onnx.save(SmallLstm(), folder / "lstm.onnx")
    quantization.quantize_dynamic(folder / "lstm.onnx", folder / "lstm_dynamic.onnx")
    yield ("lstm dynamic", folder / "lstm_dynamic.onnx", {"input": F(6, 2, 8)}, integers, {"DynamicQuantizeLSTM"})


def TransformerTools(folder, quantization, plain, feeds):
    """The optimizer for transformers, with its dynamic form, and the quantizer to 4 bits."""
    from onnxruntime.quantization.matmul_4bits_quantizer import MatMul4BitsQuantizer
    from onnxruntime.transformers import optimizer
    fused, narrow = folder / "transformer.onnx", folder / "transformer_dynamic.onnx"
    optimizer.optimize_model(str(plain), model_type="bert", num_heads=4, hidden_size=32,
                             opt_level=0).save_model_to_file(str(fused))
    yield "transformer optimizer", fused, feeds, FLOAT_TOLERANCE, {"Attention", "SkipLayerNormalization"}
    quantization.quantize_dynamic(fused, narrow, weight_type=quantization.QuantType.QInt8, reduce_range=True)
    yield "transformer optimizer, dynamic", narrow, feeds, 0.08, {"QAttention"}
    for symmetric in (True, False):
        path = folder / "four_bits.onnx"
        quantizer = MatMul4BitsQuantizer(onnx.load(plain), block_size=16, is_symmetric=symmetric)
        quantizer.process()
        onnx.save(quantizer.model.model, path)
        yield f"four bits, symmetric {symmetric}", path, feeds, FLOAT_TOLERANCE, {"MatMulNBits"}


# --- running -------------------------------------------------------------------------------------


def Run(runner, road, path, inputs):
    """Outputs on "reference" or "plan", or on "export": the portable form in ONNX Runtime."""
    if road == "export":
        return roads.RunOrt(roads.Session(runner.Export(path, portable=True)), inputs)
    return runner.Call(road, path, [inputs])[0]


def Difference(want, got, tolerance, equal):
    """What is wrong with `got`; None if nothing. Bytes may be one step away, but not many of them."""
    if got.dtype != want.dtype or got.shape != want.shape or want.dtype.itemsize > 2 or want.dtype.kind == "f":
        return roads.Difference(got, want, tolerance)
    gap = np.abs(got.astype(np.int64) - want.astype(np.int64))
    share = float(np.mean(gap == 0))
    return None if gap.max(initial=0) <= 1 and share >= equal else f"{gap.max()} steps away, {share:.3f} are equal"


def Compare(runner, name, path, feeds, tolerance, equal, verbose):
    problems = []
    inputs = [feeds[i.name] for i in onnx.load(path, load_external_data=False).graph.input]
    want = roads.RunOrt(roads.Session(path), inputs)
    for road in ("reference", "plan", "export"):
        try:
            got = Run(runner, road, path, inputs)
        except roads.RoadError as e:
            problems.append(f"{name}, {road}: {e}")
            continue
        wrong = [f"output {i} {text}" for i, (w, g) in enumerate(zip(want, got, strict=True))
                 if (text := Difference(w, g, tolerance, equal))]
        problems += [f"{name}, {road}: {w}" for w in wrong]
    if verbose or problems:
        print(f"{'FAILED' if problems else 'ok':6} {name}", *problems, sep="\n       ", flush=True)
    return problems


def CheckUnknown(runner, folder):
    """An operator that nobody has is named."""
    model, feeds = MakeModel("BeamSearch", [F(2, 3)], {}, [TensorProto.FLOAT], MS, 17, False)
    onnx.save(model, folder / "unknown.onnx")
    try:
        Run(runner, "plan", folder / "unknown.onnx", list(feeds.values()))
    except roads.RoadError as e:
        if "UNIMPLEMENTED" in str(e) and "com.microsoft.BeamSearch (opset 1) in 'tested'" in str(e):
            return []
        return [f"unknown operator: {e}"]
    return ["unknown operator: no error"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--only", default="", help="run only what has this text in its name")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantizer's advice
    for family in (Activations, Norms, Products, Attentions, IntegerProducts, NBits, Conversions):
        family()
    for dtype in (np.uint8, np.int8):
        Quantized(dtype)
    problems, count = [], 0
    with roads.ScratchFolder() as folder, roads.Runner(args.build, folder) as runner:
        folder = pathlib.Path(folder)
        for name, (model, feeds), tolerance, equal in CASES:
            if args.only not in name:
                continue
            onnx.save(model, folder / "case.onnx")
            try:
                problems += Compare(runner, name, folder / "case.onnx", feeds, tolerance, equal, args.verbose)
            except roads.RoadError as e:  # ONNX Runtime refuses the case: the case is wrong
                problems.append(f"{name}: {e}")
                print("FAILED", problems[-1][:300], flush=True)
            count += 1
        for name, path, feeds, tolerance, wanted in ToolModels(folder):
            if args.only not in name:
                continue
            ops = {n.op_type for n in onnx.load(path).graph.node}
            if not wanted <= ops:
                problems.append(f"{name}: has no {', '.join(wanted - ops)}")
            if args.verbose:
                print(name, *sorted(ops))
            problems += Compare(runner, name, path, feeds, tolerance, 0.9, args.verbose)
            count += 1
        problems += CheckUnknown(runner, folder)
    print(f"{count} models, {len(problems)} disagreements")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
