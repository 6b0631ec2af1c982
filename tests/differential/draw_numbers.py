"""Elementwise operators, reductions, products, windows, normalisation."""
import numpy as np

from common import ANY, Argument, Axes, Draws, F, Image, INTS, NUMBERS, OneAxis, PoolWindow, SIGNED, Window
from drawing import FLOATS
from roads import NUMPY

# --- elementwise ----------------------------------------------------------------------------------

# name → element types, lowest and highest operand, attributes with their ranges.
UNARY = {
    "Abs": (NUMBERS, -3, 3), "Neg": (F + SIGNED, -3, 3), "Sign": (NUMBERS, -3, 3), "Relu": (F + ("i32", "i8"), -3, 3),
    "BitwiseNot": (INTS, -9, 9), "Floor": (F, -5, 5), "Ceil": (F, -5, 5), "Round": (F, -5, 5), "Sqrt": (F, 0.1, 9),
    "Reciprocal": (F, 0.2, 5), "Exp": (F, -4, 3), "Log": (F, 0.1, 20), "Erf": (F, -3, 3), "Sin": (F, -6, 6),
    "Cos": (F, -6, 6), "Tan": (F, -1.2, 1.2), "Asin": (F, -0.9, 0.9), "Acos": (F, -0.9, 0.9), "Atan": (F, -9, 9),
    "Sinh": (F, -3, 3), "Cosh": (F, -3, 3), "Asinh": (F, -9, 9), "Acosh": (F, 1.2, 9), "Atanh": (F, -0.9, 0.9),
    "Tanh": (F, -4, 4), "Sigmoid": (F, -9, 9), "Softplus": (F, -9, 9), "Softsign": (F, -9, 9), "Mish": (F, -5, 5),
    "HardSwish": (F, -5, 5), "Not": (("bool",), 0, 1), "IsNaN": (F, -3, 3),
    "Elu": (F, -4, 4, {"alpha": (0.2, 2)}), "Celu": (("f32",), -4, 4, {"alpha": (0.5, 2)}),
    "Selu": (F, -4, 4, {"alpha": (0.5, 2), "gamma": (0.5, 2)}), "LeakyRelu": (F, -4, 4, {"alpha": (0.01, 1.5)}),
    "ThresholdedRelu": (F, -4, 4, {"alpha": (0, 1)}), "HardSigmoid": (F, -4, 4, {"alpha": (0.1, 0.5), "beta": (0.1, 0.9)}),
    "Shrink": (F + INTS, -4, 4, {"lambd": (0.2, 1), "bias": (0, 1)}),
    "Identity": (ANY, -9, 9), "GlobalDummy": (F, 0, 0),
}
UNARY.pop("GlobalDummy")
EXACT_UNARY = {"Abs", "Neg", "Sign", "Relu", "BitwiseNot", "Floor", "Ceil", "Round", "Not", "IsNaN", "Identity"}


@Draws(*UNARY)
def Unary(d, op):
    types, low, high, *ranges = UNARY[op]
    attributes = {k: d.rng.uniform(*r) for k, r in (ranges[0] if ranges else {}).items() if d.Chance(0.6)}
    d.Node(op, [d.Operand(types, low, high)], exact=op in EXACT_UNARY, **attributes)


@Draws("Gelu")
def Gelu(d, op):
    d.Node(op, [d.Operand(F, -4, 4)], approximate=d.Pick([None, "tanh", "none"]))


@Draws("IsInf")
def IsInf(d, op):
    x = d.Array("f32", d.Shape(1, 3))
    x[d.rng.random(x.shape) < 0.3] = np.inf
    x[d.rng.random(x.shape) < 0.3] = -np.inf
    d.Node(op, [d.Feed(x, d.Chance())], exact=True, detect_positive=d.Pick([None, 0, 1]),
           detect_negative=d.Pick([None, 0, 1]))


def Pair(d, types, low=-3, high=3, low2=None, high2=None):
    a = d.Operand(types, low, high)
    return a, d.Partner(a, low if low2 is None else low2, high if high2 is None else high2)


@Draws("Add", "Sub", "Mul", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor")
def Arithmetic(d, op):
    types = INTS if op.startswith("Bitwise") else ("bool",) if op in ("And", "Or", "Xor") else F + SIGNED + ("u8",)
    a, b = Pair(d, types, -50, 50)
    d.Node(op, [a, b] if d.Chance() else [b, a])


@Draws("Div")
def Div(d, op):
    a = d.Operand(F + ("i32", "i64"), -20, 20)
    d.Node(op, [a, d.Partner(a, 0.5 if a.type in FLOATS else 1, 4, fresh=True)])


@Draws("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def Comparison(d, op):
    a, b = Pair(d, NUMBERS + (("bool",) if op == "Equal" else ()), -50, 50)
    d.Node(op, [a, b], exact=True)


@Draws("Pow")
def Pow(d, op):
    a = d.Operand(("f32", "f32", "f64", "i32", "i64") if d.opset >= 12 else F, 0.2, 3)
    d.Node(op, [a, d.Partner(a, -2 if a.type in FLOATS else 0, 3,
                             d.Pick(["f32", "i32", "i64", "f64"]) if d.opset >= 12 and d.Chance(0.3) else None)])


@Draws("Mod")
def Mod(d, op):
    a = d.Operand(("f32",) + INTS, -20, 20)
    d.Node(op, [a, d.Partner(a, 1, 7, fresh=True)], fmod=1 if a.type == "f32" else d.Pick([None, 0, 1]))


@Draws("BitShift")
def BitShift(d, op):
    a = d.Operand(("u8", "u32", "u64"), 0, 200)
    d.Node(op, [a, d.Partner(a, 0, 7)], direction=d.Pick(["LEFT", "RIGHT"]))


@Draws("PRelu")
def PRelu(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64"), -5, 5, ranks=(1, 4))
    shape = [n if d.Chance(0.6) else 1 for n in x.shape][d.Int(0, x.rank - 1):]
    d.Node(op, [x, d.Operand(x.type, -3, 3, like=tuple(shape))])


@Draws("Min", "Max", "Sum", "Mean")
def Variadic(d, op):
    a = d.Operand(F + ("i32", "i64") if op in ("Min", "Max") and d.opset >= 8 else F)
    d.Node(op, [a] + [d.Partner(a) for _ in range(d.Int(0, 3))], exact=op in ("Min", "Max"))


@Draws("Where")
def Where(d, op):
    a = d.Operand(("f32", "f32", "i64", "u8", "i32", "f64", "bool"))
    d.Node(op, [d.Partner(a, type_="bool"), a, d.Partner(a)], exact=True)


@Draws("Clip")
def Clip(d, op):
    x = d.Operand(F + (("i8", "u8", "i32", "i64") if d.opset >= 12 else ()), -9, 9)
    low, high = d.Pick([(None, 2), (-1, None), (0, 6), (-1, 1), (None, None)])
    if d.opset < 11:
        d.Node(op, [x], exact=True, min=low and float(low), max=high and float(high))
        return
    bounds = [None if b is None else d.Constant(max(b, 0) if x.type[0] == "u" else b, NUMPY[x.type]) for b in (low, high)]
    while bounds and bounds[-1] is None:
        bounds.pop()
    d.Node(op, [x, *bounds], exact=True)


# --- reductions and softmax -----------------------------------------------------------------------


@Draws("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
       "ReduceLogSumExp", "ReduceMax", "ReduceMin")
def Reduce(d, op):
    low = 0.2 if op == "ReduceLogSum" else -3
    # Logarithms of integers are cut off next to whole numbers, where the last bit decides.
    integers = () if op.startswith("ReduceLog") else ("i32", "i64")
    x = d.Operand(("f32", "f32", "f32", "f64", "f16", *integers), low, 3, ranks=(1, 4))
    axes = Axes(d, x.rank)
    inputs, attributes = Argument(d, axes, 13 if op == "ReduceSum" else 18, "axes") if axes or d.Chance() else ([], {})
    # ONNX Runtime loses this attribute where it expands a reduction (f16) and for single elements.
    if d.opset >= (13 if op == "ReduceSum" else 18) and x.type != "f16" and x.array.size > 1 and d.Chance(0.2):
        attributes["noop_with_empty_axes"] = 1
    if not attributes.get("axes", True):
        attributes.pop("axes")
    d.Node(op, [x, *inputs], exact=op in ("ReduceMax", "ReduceMin"), keepdims=d.Pick([None, 0, 1]), **attributes)


@Draws("ArgMax", "ArgMin")
def Arg(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "u8", "i8"), ranks=(1, 4))
    d.Node(op, [x], exact=True, axis=OneAxis(d, x.rank), keepdims=d.Pick([None, 0, 1]),
           select_last_index=d.Int(0, 1) if d.opset >= 12 else None)


@Draws("Softmax", "LogSoftmax", "Hardmax")
def Softmax(d, op):
    x = d.Operand(F if op != "Hardmax" else ("f32",), -5, 5, ranks=(1, 4))
    d.Node(op, [x], exact=op == "Hardmax", axis=OneAxis(d, x.rank) if d.Chance(0.8) or d.opset < 13 and x.rank < 2 else None)


# --- products and windows -------------------------------------------------------------------------


@Draws("MatMul")
def MatMul(d, op):
    type_ = d.Pick(("f32", "f32", "f32", "f64", "f16", "i32", "i64", "u32"))
    a = d.Operand(type_, ranks=(1, 4))
    k, n = a.shape[-1], d.Int(1, 6)
    batch = tuple(x if d.Chance(0.7) else 1 for x in a.shape[:-2])[d.Int(0, max(0, a.rank - 2)):]
    b = d.Operand(type_, like=(k,) if d.Chance(0.15) else (*batch, k, n))
    d.Node(op, [a, b])


@Draws("Gemm")
def Gemm(d, op):
    type_ = d.Pick(("f32", "f32", "f64", "f16"))
    m, k, n = d.Int(1, 6), d.Int(1, 8), d.Int(1, 6)
    a, b = d.Operand(type_, ranks=(2, 2)), None
    trans_a, trans_b = d.Int(0, 1), d.Int(0, 1)
    m, k = a.shape[::-1] if trans_a else a.shape
    b = d.Operand(type_, like=(n, k) if trans_b else (k, n))
    bias = [d.Operand(type_, like=d.Pick([(m, n), (1, n), (n,), (m, 1), (1,), ()]))] if d.opset < 11 or d.Chance() else []
    d.Node(op, [a, b, *bias], transA=trans_a or None, transB=trans_b or None,
           alpha=d.Pick([None, 0.5, 2.0]), beta=d.Pick([None, 0.25, 0.0]) if bias else None)


@Draws("Einsum")
def Einsum(d, op):
    equation = d.Pick(["ij,jk->ik", "bij,bjk->bik", "bij,bkj->bik", "ij->ji", "ij->i", "i,i->", "ii->i", "i,j->ij",
                       "...ij,...jk->...ik", "bhid,bhjd->bhij", "ij,ij->", "bij,jk", "ij,jk,kl->il", "ibk,jbk->bij"])
    size = {c: d.Int(1, 5) for c in "bhijkld"}
    terms = equation.split("->")[0].split(",")
    if "..." in equation:
        terms = [t.replace("...", "b") for t in terms]
    type_ = d.Pick(("f32", "f32", "f64", "i32", "i64"))
    d.Node(op, [d.Operand(type_, like=tuple(size[c] for c in t)) for t in terms], equation=equation)


@Draws("Conv")
def Conv(d, op):
    x, rank = Image(d, ("f32", "f32", "f32", "f16"))
    groups = d.Pick([g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0])
    kernel = [d.Int(1, min(3, s)) for s in x.shape[2:]]
    m = groups * d.Int(1, 4)
    w = d.Fresh(x.type, (m, x.shape[1] // groups, *kernel), -1, 1)
    bias = [d.Operand(x.type, like=(m,))] if d.Chance() else []
    attributes = Window(d, x.shape[2:], rank, kernel=kernel)
    if d.Chance(0.3):
        attributes.pop("kernel_shape")
    d.Node(op, [x, w, *bias], group=groups if groups > 1 or d.Chance(0.3) else None, **attributes)


@Draws("ConvTranspose")
def ConvTranspose(d, op):
    x, rank = Image(d, ("f32",))
    groups = d.Pick([g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0])
    kernel = [d.Int(1, 3) for _ in range(rank)]
    m = d.Int(1, 4)
    w = d.Fresh(x.type, (x.shape[1], m, *kernel), -1, 1)
    bias = [d.Operand(x.type, like=(m * groups,))] if d.Chance() else []
    attributes = Window(d, x.shape[2:], rank, kernel=kernel)
    strides = attributes.get("strides", [1] * rank)
    if any(k < s for k, s in zip(kernel, strides)) and attributes.get("auto_pad", "").startswith("SAME"):
        attributes.pop("auto_pad")  # ONNX Runtime makes less than the size that ONNX says
    if d.Chance(0.3):
        attributes["output_padding"] = [d.Int(0, s - 1) for s in strides]
    if d.Chance(0.15):
        for name in ("pads", "output_padding", "auto_pad"):
            attributes.pop(name, None)
        # Up to what the kernel reaches: ONNX Runtime leaves more than that as it finds it.
        dilations = attributes.get("dilations", [1] * rank)
        attributes["output_shape"] = [d.Int(max(1, s * (n - 1) + (k - 1) * l), s * (n - 1) + (k - 1) * l + 1)
                                      for s, n, k, l in zip(strides, x.shape[2:], kernel, dilations)]
    d.Node(op, [x, w, *bias], group=groups, **attributes)


@Draws("MaxPool")
def MaxPool(d, op):
    x, rank = Image(d, ("f32", "f32", "f64") + (("i8", "u8") if d.opset >= 12 else ()))
    window = PoolWindow(d, x.shape[2:], rank, 10, 10)
    # ONNX Runtime's index of a window of nothing but the lowest integer is none.
    indices = d.opset >= 8 and x.type in FLOATS and d.Chance(0.2)
    d.Node(op, [x], 2 if indices else 1, exact=True,
           storage_order=d.Pick([None, 0, 1]) if indices and d.opset >= 8 else None, **window)


@Draws("AveragePool", "LpPool")
def FloatPool(d, op):
    x, rank = Image(d, ("f32",))
    average = op == "AveragePool"
    window = PoolWindow(d, x.shape[2:], rank, 19 if average else 18, 10 if average else 18)
    extra = {"count_include_pad": d.Pick([None, 0, 1])} if average else {"p": d.Pick([None, 1, 2, 3])}
    if extra.get("count_include_pad"):  # ONNX Runtime counts what ceil_mode adds beyond the padding; ONNX does not
        window.pop("ceil_mode", None)
        if d.opset >= 19 and (len(set(window.get("pads", []))) > 1 or "SAME" in window.get("auto_pad", "")):
            window.pop("pads", None)  # and mistakes one padding for another
            window.pop("auto_pad", None)
    d.Node(op, [x], **window, **extra)


@Draws("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def GlobalPool(d, op):
    x, _ = Image(d, ("f32",))
    d.Node(op, [x], exact=op == "GlobalMaxPool", p=d.Pick([None, 1, 2, 3]) if op == "GlobalLpPool" else None)


@Draws("MaxUnpool")
def MaxUnpool(d, op):
    n, size = d.Int(1, 2), d.Int(1, 4)
    places = np.arange(n * size) * 2 + d.rng.integers(0, 2, n * size)  # one in every window of two
    indices = d.Feed(places.reshape(1, n, size), constant=True)  # ONNX Runtime ends the process where they are wrong
    indices.argument = True
    d.Node(op, [d.Operand("f32", like=(1, n, size)), indices], exact=True, kernel_shape=[2], strides=[2])


# --- normalisation --------------------------------------------------------------------------------


def Vector(d, n, type_="f32", low=-2.0, high=2.0):
    return d.Operand(type_, low, high, like=(n,))


@Draws("BatchNormalization")
def BatchNormalization(d, op):
    x = d.Operand(("f32", "f32", "f64"), ranks=(2, 5))
    c, t = x.shape[1], x.type
    d.Node(op, [x, Vector(d, c, t), Vector(d, c, t), Vector(d, c, t), Vector(d, c, t, 0.2, 3)],
           epsilon=d.Pick([None, 1e-3]), momentum=d.Pick([None, 0.5]))


@Draws("LayerNormalization")
def LayerNormalization(d, op):
    x = d.Operand(("f32", "f32", "f64"), ranks=(1, 4))
    axis = d.Int(-x.rank, x.rank - 1)
    shape = x.shape[axis % x.rank:]
    scale = [d.Operand(x.type, like=shape) for _ in range(d.Int(1, 2))]
    d.Node(op, [x, *scale], axis=axis if d.Chance(0.8) or len(shape) != 1 else None, epsilon=d.Pick([None, 1e-2]))


@Draws("InstanceNormalization")
def InstanceNormalization(d, op):
    x = d.Operand("f32", ranks=(3, 5), test=lambda v: v.array.size > v.shape[0] * v.shape[1])
    d.Node(op, [x, Vector(d, x.shape[1]), Vector(d, x.shape[1])], epsilon=d.Pick([None, 1e-2]))


@Draws("GroupNormalization")
def GroupNormalization(d, op):
    x = d.Operand("f32", ranks=(3, 4))
    groups = d.Pick([g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0])
    n = x.shape[1] if d.opset >= 21 else groups
    d.Node(op, [x, Vector(d, n), Vector(d, n)], num_groups=groups, epsilon=d.Pick([None, 1e-2]))


@Draws("LpNormalization")
def LpNormalization(d, op):
    x = d.Operand(("f32", "f64"), 0.1, 3, ranks=(1, 4))
    d.Node(op, [x], axis=OneAxis(d, x.rank), p=d.Pick([None, 1, 2]))


@Draws("LRN")
def Lrn(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    d.Node(op, [x], size=d.Pick([1, 3, 5]), alpha=d.Pick([None, 0.1]), beta=d.Pick([None, 0.5]), bias=d.Pick([None, 2.0]))


@Draws("MeanVarianceNormalization")
def MeanVarianceNormalization(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    d.Node(op, [x], axes=d.Pick([None, [0, 2, 3], [0, 1, 2, 3]]))
