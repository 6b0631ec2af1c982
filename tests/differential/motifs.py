"""Subgraphs as exporters and quantizers write them: what the passes rewrite and the plan fuses.

A motif gets a Drawing and adds several nodes, all or none. They want opset 13 or newer.
"""
import numpy as np
from onnx import TensorProto

from common import Image, Window
from drawing import Rejected

OLDEST_OPSET = 13


def Constant(d, array, dtype=np.float32):
    return d.Feed(np.asarray(array, dtype), constant=True)


def Weights(d, *shape):
    return Constant(d, d.rng.uniform(-0.6, 0.6, shape))


def One(d, op, *inputs, **attributes):
    return d.Node(op, list(inputs), **attributes)[0]


def Commuted(d, op, a, b):
    return One(d, op, *((a, b) if d.Chance() else (b, a)))


def Activation(d, x):
    def Gate(gate):
        return Commuted(d, "Mul", x, One(d, gate, x))
    choices = {
        "none": lambda: x, "relu": lambda: One(d, "Relu", x, exact=True), "swish": lambda: Gate("Sigmoid"),
        "relu6": lambda: One(d, "Clip", x, Constant(d, 0), Constant(d, 6), exact=True), "hard": lambda: Gate("HardSigmoid"),
        "leaky": lambda: One(d, "LeakyRelu", x, alpha=0.1), "tanh": lambda: One(d, "Tanh", x),
        "hardswish": lambda: HardSwish(d, x), "gelu": lambda: Gelu(d, x),
    }
    return choices[d.Pick(sorted(choices))]()


def HardSwish(d, x):
    clipped = One(d, "Clip", Commuted(d, "Add", x, Constant(d, 3)), Constant(d, 0), Constant(d, 6))
    if d.Chance():
        return One(d, "Div", Commuted(d, "Mul", x, clipped), Constant(d, 6))
    return Commuted(d, "Mul", x, One(d, "Div", clipped, Constant(d, 6)))


def Gelu(d, x):
    if d.Chance():
        inner = One(d, "Erf", One(d, "Div", x, Constant(d, np.sqrt(2))) if d.Chance()
                    else Commuted(d, "Mul", x, Constant(d, np.sqrt(0.5))))
    else:
        cube = One(d, "Pow", x, Constant(d, 3)) if d.Chance() else One(d, "Mul", One(d, "Mul", x, x), x)
        inner = One(d, "Tanh", Commuted(d, "Mul", Commuted(d, "Add", x, Commuted(d, "Mul", cube, Constant(d, 0.044715))),
                                        Constant(d, np.sqrt(2 / np.pi))))
    sum_ = Commuted(d, "Add", inner, Constant(d, 1))
    if d.Chance():
        return Commuted(d, "Mul", Commuted(d, "Mul", x, Constant(d, 0.5)), sum_)
    return Commuted(d, "Mul", Commuted(d, "Mul", x, sum_), Constant(d, 0.5))


def BatchNorm(d, x):
    c = x.shape[1]
    return One(d, "BatchNormalization", x, Constant(d, d.rng.uniform(0.5, 2, c)), Constant(d, d.rng.uniform(-1, 1, c)),
               Constant(d, d.rng.uniform(-1, 1, c)), Constant(d, d.rng.uniform(0.5, 2, c)))


def Residual(d, y):
    return Commuted(d, "Add", y, d.Operand("f32", like=y.shape)) if d.Chance(0.4) else y


def Conv(d, x):
    groups = d.Pick([g for g in (1, 1, 2, 3, x.shape[1]) if x.shape[1] % g == 0])
    kernel = [d.Int(1, min(3, s)) for s in x.shape[2:]]
    m = groups * d.Int(1, 4)
    w = Weights(d, m, x.shape[1] // groups, *kernel)
    bias = [Weights(d, m)] if d.Chance() else []
    return One(d, "Conv", x, w, *bias, group=groups, **Window(d, x.shape[2:], len(kernel), kernel=kernel))


def ConvBlock(d):
    x, _ = Image(d, ("f32",))
    if d.Chance(0.2):
        x = One(d, "Pad", x, Constant(d, [0, 0, *[1] * (x.rank - 2)] * 2, np.int64), exact=True)
    y = Conv(d, x)
    if d.Chance(0.5):
        y = BatchNorm(d, y)
    elif d.Chance(0.3):
        shape = (y.shape[1], *[1] * (y.rank - 2))
        y = One(d, d.Pick(["Mul", "Add", "Sub", "Div"]), y, Constant(d, d.rng.uniform(0.5, 2, shape)))
    y = Residual(d, Activation(d, y))
    if d.Chance(0.4):
        y = Activation(d, y)
    if d.Chance(0.3):
        y = One(d, d.Pick(["GlobalAveragePool", "GlobalMaxPool"]), y)
    elif d.Chance(0.2):
        Conv(d, y)


def Dense(d):
    x = d.Operand("f32", ranks=(2, 4))
    n = d.Int(1, 6)
    y = One(d, "MatMul", x, Weights(d, x.shape[-1], n))
    if d.Chance(0.7):
        y = Commuted(d, "Add", y, Weights(d, n))
    Residual(d, Activation(d, y))


def LayerNorm(d):
    x = d.Operand("f32", ranks=(2, 4))
    axes = [-1] if d.Chance(0.7) else [x.rank - 1]

    def Mean(v):
        if d.opset >= 18:
            return One(d, "ReduceMean", v, Constant(d, axes, np.int64))
        return One(d, "ReduceMean", v, axes=axes)
    centred = One(d, "Sub", x, Mean(x))
    square = One(d, "Pow", centred, Constant(d, 2)) if d.Chance() else One(d, "Mul", centred, centred)
    deviation = One(d, "Sqrt", Commuted(d, "Add", Mean(square), Constant(d, 1e-2)))
    y = One(d, "Div", centred, deviation)
    if d.Chance(0.7):
        y = Commuted(d, "Mul", y, Weights(d, x.shape[-1]))
        y = Commuted(d, "Add", y, Weights(d, x.shape[-1]))
    return y


def Attention(d):
    batch, heads, length, size = d.Int(1, 2), d.Int(1, 3), d.Int(1, 5), d.Int(1, 4)
    shape = Constant(d, [0, 0, heads, size], np.int64)

    def Heads():
        flat = d.Operand("f32", like=(batch, length, heads * size))
        return One(d, "Transpose", One(d, "Reshape", flat, shape, exact=True), exact=True, perm=[0, 2, 1, 3])
    q, k, v = Heads(), Heads(), Heads()
    scores = One(d, "MatMul", q, One(d, "Transpose", k, exact=True, perm=[0, 1, 3, 2]))
    scores = (One(d, "Div", scores, Constant(d, np.sqrt(size))) if d.Chance()
              else Commuted(d, "Mul", scores, Constant(d, 1 / np.sqrt(size))))
    if d.Chance():
        scores = One(d, "Add", scores, d.Operand("f32", like=d.Pick([(length, length), (batch, 1, 1, length)])))
    y = One(d, "MatMul", One(d, "Softmax", scores, axis=-1), v)
    y = One(d, "Transpose", y, exact=True, perm=[0, 2, 1, 3])
    One(d, "Reshape", y, Constant(d, [0, 0, heads * size], np.int64), exact=True)


def ChannelShuffle(d):
    x = d.Fresh("f32", (d.Int(1, 2), 2 * d.Int(1, 4), d.Int(1, 4), d.Int(1, 4)))
    n, c, h, w = x.shape
    y = One(d, "Reshape", x, Constant(d, [n, 2, c // 2, h, w], np.int64), exact=True)
    y = One(d, "Transpose", y, exact=True, perm=[0, 2, 1, 3, 4])
    One(d, "Reshape", y, Constant(d, [n, c, h, w] if d.Chance() else [0, -1, h, w], np.int64), exact=True)


def ShapeArithmetic(d):
    x = d.Operand("f32", ranks=(2, 4))
    shape = One(d, "Shape", x, exact=True)
    first = One(d, "Gather", shape, Constant(d, 0, np.int64), exact=True)
    first = One(d, "Unsqueeze", first, Constant(d, [0], np.int64), exact=True)
    rest = One(d, "Slice", shape, *(Constant(d, [v], np.int64) for v in (1, x.rank, 0)), exact=True)
    if d.Chance():
        wanted = One(d, "Concat", first, Constant(d, [-1], np.int64), exact=True, axis=0)
    else:
        size = One(d, "ReduceProd", rest, exact=True, keepdims=1)
        wanted = One(d, "Concat", size, first, exact=True, axis=0)
    One(d, "Reshape", x, wanted, exact=True)


def Branches(d):
    x = d.Operand("f32", ranks=(4, 4), test=lambda v: v.shape[1] >= 2)
    if x.shape[1] < 2:
        raise Rejected("one channel")
    split = d.Int(1, x.shape[1] - 1)
    a, b = d.Node("Split", [x, Constant(d, [split, x.shape[1] - split], np.int64)], 2, exact=True, axis=1)
    w = Weights(d, d.Int(1, 4), a.shape[1], 1, 1)
    parts = [Activation(d, One(d, "Conv", a, w)), Activation(d, b)]
    One(d, "Concat", *(parts if d.Chance() else parts[::-1]), exact=True, axis=1)


def Pointwise(d, x):
    w = Weights(d, d.Int(1, 5), x.shape[1], *[1] * (x.rank - 2))
    return One(d, "Conv", x, w, *([Weights(d, w.shape[0])] if d.Chance() else []))


def ConcatChain(d):
    """Concats of each other's parts: what a producer may write in place, who else reads it, and in which layout."""
    parts = [d.Operand("f32", ranks=(3, 4), test=lambda v: v.shape[1] <= 8)]
    for _ in range(d.Int(2, 7)):
        v = d.Pick(parts[-3:])
        step = d.Pick(["product", "product", "image", "activation", "split", "concat", "concat", "other axis"])
        if step == "product":
            y = Activation(d, Pointwise(d, v))
        elif step == "image":
            w = Weights(d, d.Int(1, 4), v.shape[1], *[3] * (v.rank - 2))
            y = One(d, "Conv", v, w, pads=[1] * 2 * (v.rank - 2))
        elif step == "activation":
            y = Activation(d, v)
        elif step == "split" and v.shape[1] > 1:
            sizes = Constant(d, [1, v.shape[1] - 1] if d.Chance() else [v.shape[1] - 1, 1], np.int64)
            parts.extend(d.Node("Split", [v, sizes], 2, exact=True, axis=1))
            continue
        elif step == "other axis":
            pair = [Activation(d, v), v]
            One(d, "Concat", *(pair if d.Chance() else pair[::-1]), exact=True, axis=d.Pick([0, 2, v.rank - 1]))
            continue
        else:
            chosen = [d.Pick(parts) for _ in range(d.Int(2, 4))]
            if sum(p.shape[1] for p in chosen) > 24:
                continue
            y = One(d, "Concat", *chosen, exact=True, axis=d.Pick([1, 1 - v.rank]))
        parts.append(y)


def ConcatOfProducts(d):
    x = d.Operand("f32", ranks=(2, 3))
    parts = []
    for _ in range(d.Int(2, 3)):
        y = One(d, "MatMul", x, Weights(d, x.shape[-1], d.Int(1, 5)))
        y = Commuted(d, "Add", y, Weights(d, y.shape[-1])) if d.Chance() else y
        parts.append(Activation(d, y))
    y = One(d, "Concat", *parts, exact=True, axis=-1)
    if d.Chance():  # and a product that reads columns of it where they lie
        n = d.Int(1, y.shape[-1])
        bounds = (Constant(d, [v], np.int64) for v in (y.shape[-1] - n, y.shape[-1], y.rank - 1))
        One(d, "MatMul", One(d, "Slice", y, *bounds, exact=True), Weights(d, n, d.Int(1, 4)))


# --- quantized ------------------------------------------------------------------------------------


def QuantizedPair(d, x):
    """QuantizeLinear and DequantizeLinear that cover the tensor's range."""
    low, high = min(0.0, float(x.array.min())), max(0.0, float(x.array.max()))
    type_ = d.Pick([np.uint8, np.int8])
    # Not 255: no element is on the grid by construction, and may be compared with its quantized self.
    scale = Constant(d, max(high - low, 1e-2) / 254.3)
    zero = Constant(d, np.iinfo(type_).min + round(-low / float(scale.array)), type_)
    q = One(d, "QuantizeLinear", x, scale, zero, jitter=True, quantized=True)
    return One(d, "DequantizeLinear", q, scale, zero, quantized=True)


def QuantizedWeights(d, shape, axis, full_range):
    most = 127 if full_range else 63
    q = Constant(d, d.rng.integers(-most, most + 1, shape), np.int8)
    per_channel = d.Chance()
    scale = Constant(d, d.rng.uniform(0.002, 0.01, (shape[axis],) if per_channel else ()))
    zero = [Constant(d, np.zeros(scale.shape), np.int8)] if d.Chance() else []
    return One(d, "DequantizeLinear", q, scale, *zero, quantized=False, axis=axis if per_channel else None)


def QuantizedLayer(d, y):
    y = Residual(d, y) if d.Chance(0.3) else y
    if d.Chance():
        y = One(d, "Relu", y, exact=True)
    if d.Chance(0.7):
        QuantizedPair(d, y)


def StaticConv(d):
    x, rank = Image(d, ("f32",), test=lambda v: not v.quantized)
    kernel = [d.Int(1, min(3, s)) for s in x.shape[2:]]
    shape = (d.Int(1, 6), x.shape[1], *kernel)
    w = QuantizedWeights(d, shape, 0, d.Chance())
    bias = [Weights(d, shape[0])] if d.Chance() else []
    QuantizedLayer(d, One(d, "Conv", QuantizedPair(d, x), w, *bias, **Window(d, x.shape[2:], rank, kernel=kernel)))


def StaticMatMul(d):
    x = d.Operand("f32", ranks=(2, 3), test=lambda v: not v.quantized)
    w = QuantizedWeights(d, (x.shape[-1], d.Int(1, 6)), 1, d.Chance())
    QuantizedLayer(d, One(d, "MatMul", QuantizedPair(d, x), w))


def QuantizedProduct(d):
    """Both sides computed; the right one around zero as integer products take it, or not."""
    batch, m, k, n = d.Int(1, 3), d.Int(1, 5), d.Int(1, 6), d.Int(1, 5)
    left = QuantizedPair(d, d.Operand("f32", like=(batch, m, k), test=lambda v: not v.quantized))
    right = d.Operand("f32", like=(batch, n, k), test=lambda v: not v.quantized)
    if d.Chance(0.7):
        scale, zero = Constant(d, max(float(np.abs(right.array).max()), 1e-2) / 126.3), Constant(d, 0, np.int8)
        q = One(d, "QuantizeLinear", right, scale, zero, jitter=True, quantized=True)
        right = One(d, "DequantizeLinear", q, scale, zero, quantized=True)
    else:
        right = QuantizedPair(d, right)
    y = One(d, "MatMul", left, One(d, "Transpose", right, exact=True, perm=[0, 2, 1]))
    if d.Chance():
        y = One(d, "Softmax", y, axis=-1)
    elif d.Chance():
        y = One(d, "LayerNormalization", y, Weights(d, n), axis=-1) if d.opset >= 17 else y
    QuantizedLayer(d, y)


def QuantizedConcat(d):
    """Parts on one scale, or one part on another, in front of an integer product."""
    x = QuantizedPair(d, d.Operand("f32", ranks=(4, 4), test=lambda v: not v.quantized and v.shape[1] <= 6))
    parts = [One(d, "Conv", x, QuantizedWeights(d, (d.Int(1, 5), x.shape[1], 1, 1), 0, d.Chance()))
             for _ in range(d.Int(2, 3))]
    parts = [One(d, "Relu", p, exact=True) if d.Chance() else p for p in parts]
    largest = max(float(np.abs(p.array).max()) for p in parts)
    zero = Constant(d, 128, np.uint8)

    def Pair(v, scale):
        q = One(d, "QuantizeLinear", v, scale, zero, jitter=True, quantized=True)
        return One(d, "DequantizeLinear", q, scale, zero, quantized=True)
    scale = Constant(d, max(largest, 1e-2) / 126.3)
    other = Constant(d, max(largest, 1e-2) / 100.7) if d.Chance(0.2) else scale
    parts = [Pair(p, other if i == 0 else scale) for i, p in enumerate(parts)]
    y = Pair(One(d, "Concat", *parts, exact=True, axis=1), scale)
    QuantizedLayer(d, One(d, "Conv", y, QuantizedWeights(d, (d.Int(1, 4), y.shape[1], 1, 1), 0, d.Chance())))


def NarrowWeights(d):
    """f16 or i8 weights that widen in front of a float product."""
    x = d.Operand("f32", ranks=(2, 4))
    shape = (x.shape[-1], d.Int(1, 6))
    if d.Chance():
        w = QuantizedWeights(d, shape, d.Pick([0, 1]), True)
    else:
        # Exact: widening rounds nothing, whatever the constant was rounded to before.
        w = One(d, "Cast", Constant(d, d.rng.uniform(-1, 1, shape), np.float16), exact=True, to=TensorProto.FLOAT)
        w.fine = True
    y = One(d, "MatMul", x, w)
    Activation(d, Commuted(d, "Add", y, Weights(d, shape[1])) if d.Chance() else y)


def DynamicMatMul(d):
    x = d.Operand("f32", ranks=(2, 3), test=lambda v: not v.quantized)
    q, scale, zero = d.Node("DynamicQuantizeLinear", [x], 3, jitter=True, quantized=True, tiny=True)
    w = Constant(d, d.rng.integers(-63, 64, (x.shape[-1], d.Int(1, 5))), np.int8)
    y = One(d, "MatMulInteger", q, w, zero, Constant(d, 0, np.int8), quantized=True)
    y = One(d, "Cast", y, exact=True, to=TensorProto.FLOAT)
    y = One(d, "Mul", y, One(d, "Mul", scale, Constant(d, 0.005), tiny=True))
    Activation(d, y)


MOTIFS = {f.__name__: f for f in (ConvBlock, Dense, LayerNorm, Attention, ChannelShuffle, ShapeArithmetic,
                                  Branches, ConcatChain, ConcatOfProducts, StaticConv, StaticMatMul, QuantizedConcat,
                                  QuantizedProduct, NarrowWeights, DynamicMatMul)}
MOTIFS.update({"HardSwish": lambda d: HardSwish(d, d.Operand("f32")), "Gelu": lambda d: Gelu(d, d.Operand("f32", -3, 3))})
