"""How to draw each operator of the table: its inputs and attributes, one function per operator or family.

A function gets a Drawing and the operator's name and adds one node with d.Node(...); it may raise Rejected. A new
operator is one function with @Draws("Name"), or a line in UNDRAWN with the reason why there is none.
"""
import numpy as np
from onnx import TensorProto, helper

from drawing import FLOATS, Rejected, TensorType
from roads import NUMPY, ONNX

F = ("f32", "f32", "f32", "f32", "f64", "f16")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTS = SIGNED + UNSIGNED
NUMBERS = F + INTS
ANY = NUMBERS + ("bool",)
MIXED = ("f32", "f32", "f64", "f16", "i32", "i64", "u8", "i8", "bool")

# Operators of ai.onnx that no graph draws, and why.
UNDRAWN = {
    "Bernoulli": "random", "Multinomial": "random", "RandomNormal": "random", "RandomNormalLike": "random",
    "RandomUniform": "random", "RandomUniformLike": "random",
    "DeformConv": "ONNX Runtime has no CPU kernel",
    "SimplifiedLayerNormalization": "ONNX Runtime's own: tests/python/microsoft_operators_test.py",
}

DRAWS = {}


def Draws(*names):
    def Register(function):
        for name in names:
            DRAWS[name] = function
        return function
    return Register


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
    d.Node(op, [a, d.Partner(a, 0.5 if a.type in FLOATS else 1, 4)])


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
    d.Node(op, [a, d.Partner(a, 1, 7)], fmod=1 if a.type == "f32" else d.Pick([None, 0, 1]))


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


def Axes(d, rank, least=0):
    """Some axes of `rank`, counted from either end."""
    axes = [int(a) for a in d.rng.permutation(rank)[:d.Int(least, rank)]]
    return [a - rank if d.opset >= 11 and d.Chance(0.3) else a for a in axes]


def Argument(d, values, since, attribute):
    """Integers as an input from opset `since` on, as an attribute before: (inputs, attributes)."""
    if d.opset >= since:
        return [d.Constant(values)], {}
    return [], {attribute: values}


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


def OneAxis(d, rank):
    return d.Int(-rank if d.opset >= 11 else 0, rank - 1)


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


def Window(d, spatial, rank, since_dilations=1, since_ceil=None, kernel=None):
    """Attributes of a sliding window that fits into the spatial sizes."""
    out = {"kernel_shape": kernel or [d.Int(1, min(3, s)) for s in spatial]}
    if d.Chance(0.7):
        out["strides"] = [d.Int(1, 3) for _ in range(rank)]
    if d.Chance(0.3) and d.opset >= since_dilations:
        out["dilations"] = [2 if (k - 1) * 2 < s else 1 for k, s in zip(out["kernel_shape"], spatial)]
    if d.Chance(0.3):
        out["auto_pad"] = d.Pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    if out.get("auto_pad", "NOTSET") == "NOTSET" and d.Chance(0.6):
        out["pads"] = [d.Int(0, k - 1) for k in out["kernel_shape"] * 2]
    if since_ceil is not None and d.opset >= since_ceil and d.Chance(0.3):
        out["ceil_mode"] = 1
    return out


def PoolWindow(d, *arguments):
    window = Window(d, *arguments)
    if window.get("auto_pad", "NOTSET").startswith("SAME"):
        window.pop("dilations", None)  # ONNX Runtime forgets them there
        if any(k < s for k, s in zip(window["kernel_shape"], window.get("strides", []))):
            window.pop("auto_pad")  # and takes less than no padding
    return window


def Image(d, types=("f32", "f32", "f32", "f64"), low=-3.0, high=3.0, test=None):
    rank = d.Pick([1, 2, 2, 2, 3])
    x = d.Operand(types, low, high, ranks=(rank + 2, rank + 2), test=test)
    if x.fed and not x.used and d.Chance(0.5):  # a little more than an operand's usual sizes
        x = d.Fresh(x.type, (d.Int(1, 2), d.Pick([1, 2, 3, 4, 6, 8]), *(d.Int(3, 9) for _ in range(rank))), low, high)
    return x, x.rank - 2


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
    x, rank = Image(d, ("f32",))
    kernel = [d.Int(1, min(2, s)) for s in x.shape[2:]]
    y, indices = d.Node("MaxPool", [x], 2, exact=True, kernel_shape=kernel, strides=kernel)
    d.Node(op, [y, indices], exact=True, kernel_shape=kernel, strides=kernel)


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


# --- creation -------------------------------------------------------------------------------------


@Draws("Constant")
def Constant(d, op):
    kind = d.Int(0, 4) if d.opset >= 12 else 0
    value = [{"value": helper.make_tensor("c", ONNX["f32"], (2, 3), d.rng.uniform(-2, 2, 6))},
             {"value_float": 1.5}, {"value_int": 3}, {"value_floats": [1.0, -2.5]}, {"value_ints": [4, -1, 2]}][kind]
    d.Node(op, [], exact=True, **value)


@Draws("ConstantOfShape")
def ConstantOfShape(d, op):
    type_ = d.Pick(ANY)
    value = helper.make_tensor("c", ONNX[type_], [1], [d.Int(0, 1)])
    d.Node(op, [d.Constant(d.Shape(0, 3), np.int64)], exact=True, value=value if d.Chance(0.8) else None)


@Draws("Range")
def Range(d, op):
    type_ = d.Pick(("f32", "f64", "i16", "i32", "i64"))
    start, count, step = d.Int(-5, 5), d.Int(1, 9), d.Pick([-2, -1, 1, 3])
    scale = 0.5 if type_[0] == "f" else 1
    d.Node(op, [d.Constant(np.asarray(v * scale), NUMPY[type_]) for v in (start, start + count * step, step)])


def Castable(d):
    return d.Operand(("f32", "f32", "f64", "f16", *INTS, "bool"), 0 if d.Chance() else -3, 90)


@Draws("Cast")
def Cast(d, op):
    x = Castable(d)
    negative = x.array.size and x.type != "bool" and x.array.min() < 0
    to = d.Pick(F + SIGNED + ("bool",) if negative and x.type in FLOATS else ANY)
    d.Node(op, [x], exact=to not in FLOATS or x.type not in FLOATS, to=ONNX[to])


@Draws("CastLike")
def CastLike(d, op):
    d.Node(op, [d.Operand(("f32", "f16", "i32", "i64", "u8"), 0, 90), d.Operand(("f32", "f64", "i32", "i64", "u8"))])


@Draws("EyeLike")
def EyeLike(d, op):
    x = d.Operand(("f32", "f64", "i32", "i64"), ranks=(2, 2))
    d.Node(op, [x], exact=True, k=d.Pick([None, 0, 1, -1]), dtype=d.Pick([None, ONNX["f32"], ONNX["i64"]]))


# --- indexing -------------------------------------------------------------------------------------


def Indices(d, shape, size):
    return d.Constant(d.rng.integers(-size if d.opset >= 11 else 0, size, shape), d.Pick([np.int64, np.int64, np.int32]))


@Draws("Gather")
def Gather(d, op):
    x = d.Operand(MIXED, ranks=(1, 4))
    axis = OneAxis(d, x.rank)
    d.Node(op, [x, Indices(d, d.Shape(0, 2), x.shape[axis])], exact=True, axis=axis if axis or d.Chance() else None)


@Draws("GatherElements")
def GatherElements(d, op):
    x = d.Operand(MIXED, ranks=(1, 4))
    axis = OneAxis(d, x.rank)
    shape = [d.Int(1, n) for n in x.shape]
    shape[axis] = d.Int(1, 5)
    d.Node(op, [x, Indices(d, shape, x.shape[axis])], exact=True, axis=axis)


def Tuples(d, shape, sizes, unique):
    """Index tuples into the leading `sizes`, as an i64 array of shape (*shape, len(sizes))."""
    count, total = int(np.prod(shape)), int(np.prod(sizes))
    if unique and count > total:
        raise Rejected("more places than elements")
    flat = d.rng.permutation(total)[:count] if unique else d.rng.integers(0, total, count)
    index = np.stack(np.unravel_index(flat, sizes), -1).reshape(*shape, len(sizes))
    return np.where(d.rng.random(index.shape) < 0.2, index - np.asarray(sizes), index)


@Draws("GatherND")
def GatherND(d, op):
    x = d.Operand(MIXED, ranks=(1, 4))
    batch = d.Int(0, x.rank - 1) if d.opset >= 12 and d.Chance(0.4) else 0
    depth = d.Int(1, x.rank - batch)
    index = Tuples(d, (*x.shape[:batch], *d.Shape(1, 2)), x.shape[batch:batch + depth], False)
    d.Node(op, [x, d.Constant(index)], exact=True, batch_dims=batch or None)


def Reduction(d):
    choices = [None] + (["none", "add", "mul"] if d.opset >= 16 else []) + (["min", "max"] if d.opset >= 18 else [])
    return d.Pick(choices)


@Draws("ScatterElements", "Scatter")
def ScatterElements(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64"), ranks=(1, 3))
    axis = OneAxis(d, x.rank)
    reduction = Reduction(d) if op == "ScatterElements" else None
    shape = [d.Int(1, n) for n in x.shape]
    if reduction in (None, "none"):  # the order of writes to one place is nobody's promise
        index = np.argsort(d.rng.random([*shape[:axis % x.rank], x.shape[axis], *shape[axis % x.rank + 1:]]), axis)
        index = np.take(index, range(shape[axis]), axis)
    else:
        index = d.rng.integers(-x.shape[axis], x.shape[axis], shape)
    d.Node(op, [x, d.Constant(index), d.Operand(x.type, like=tuple(shape))], axis=axis, reduction=reduction)


@Draws("ScatterND")
def ScatterND(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64"), ranks=(1, 4))
    reduction, depth = Reduction(d), d.Int(1, x.rank)
    index = Tuples(d, d.Shape(1, 2, 3), x.shape[:depth], reduction in (None, "none"))
    updates = d.Operand(x.type, like=(*index.shape[:-1], *x.shape[depth:]))
    d.Node(op, [x, d.Constant(index), updates], reduction=reduction)


@Draws("OneHot")
def OneHot(d, op):
    rank, depth = d.Int(1, 3), d.Int(1, 6)
    index = d.Operand(("i64", "i64"), -depth, depth - 1, ranks=(rank, rank))
    values = d.Constant([0, d.Int(1, 3)], d.Pick([np.float32, np.int64]))
    d.Node(op, [index, d.Constant(d.Pick([depth, [depth]])), values], exact=True, axis=d.Int(-rank - 1, rank))


# --- movement -------------------------------------------------------------------------------------


@Draws("Transpose")
def Transpose(d, op):
    x = d.Operand(MIXED, ranks=(1, 5))
    d.Node(op, [x], exact=True, perm=[int(p) for p in d.rng.permutation(x.rank)] if d.Chance(0.8) else None)


@Draws("Concat")
def Concat(d, op):
    x = d.Operand(MIXED, ranks=(1, 4))
    axis = OneAxis(d, x.rank)

    def Other():
        shape = list(x.shape)
        shape[axis] = d.Pick([shape[axis], d.Int(1, 4)])
        return d.Operand(x.type, like=tuple(shape))
    parts = [x] + [Other() for _ in range(d.Int(0, 3))]
    d.Node(op, [parts[i] for i in d.rng.permutation(len(parts))], exact=True, axis=axis)


@Draws("Split")
def Split(d, op):
    x = d.Operand(("f32", "f32", "i32", "i64", "u8", "f64"), ranks=(1, 4))
    axis = OneAxis(d, x.rank)
    n = x.shape[axis]
    sizes = []
    while sum(sizes) < n:
        sizes.append(d.Int(1, n - sum(sizes)))
    inputs, attributes = Argument(d, sizes, 13, "split")
    if d.opset >= 18 and d.Chance(0.4):
        count = d.Int(1, n)
        if -(-n // count) * (count - 1) >= n:
            raise Rejected("an empty last part")
        sizes, inputs, attributes = [0] * count, [], {"num_outputs": count}
    d.Node(op, [x, *inputs], len(sizes), exact=True, axis=axis, **attributes)


@Draws("Tile")
def Tile(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64", "u8", "bool"), ranks=(1, 4))
    d.Node(op, [x, d.Constant([d.Int(1, 3) for _ in x.shape])], exact=True)


@Draws("DepthToSpace")
def DepthToSpace(d, op):
    block = d.Int(1, 3)
    x = d.Operand(("f32", "f32", "f64"), ranks=(4, 4), test=lambda v: v.shape[1] % block**2 == 0)
    if x.shape[1] % block**2:
        x = d.Fresh("f32", (d.Int(1, 2), block**2 * d.Int(1, 2), d.Int(1, 4), d.Int(1, 4)))
    d.Node(op, [x], exact=True, blocksize=block, mode=d.Pick([None, "DCR", "CRD"]) if d.opset >= 11 else None)


@Draws("SpaceToDepth")
def SpaceToDepth(d, op):
    block = d.Int(1, 3)
    x = d.Fresh(d.Pick(["f32", "f64"]), (d.Int(1, 2), d.Int(1, 3), block * d.Int(1, 3), block * d.Int(1, 3)))
    d.Node(op, [x], exact=True, blocksize=block)


@Draws("Trilu")
def Trilu(d, op):
    x = d.Operand(("f32", "f64", "i64", "bool"), ranks=(2, 4))
    d.Node(op, [x] + ([d.Constant(d.Int(-3, 3))] if d.Chance() else []), exact=True, upper=d.Pick([None, 0, 1]))


# --- shapes ---------------------------------------------------------------------------------------


@Draws("Reshape")
def Reshape(d, op):
    x = d.Operand(MIXED, ranks=(0, 5))
    rest, shape = x.array.size, []
    for _ in range(d.Int(0 if rest == 1 else 1, 4)):
        shape.append(d.Pick([n for n in range(1, rest + 1) if rest % n == 0][:6]))
        rest //= shape[-1]
    if rest > 1:
        shape.append(rest)
    for i, n in enumerate(shape):
        if i < x.rank and n == x.shape[i] and d.Chance(0.4):
            shape[i] = 0
    if shape and d.Chance(0.5):
        shape[d.Int(0, len(shape) - 1)] = -1
    allow_zero = 0 not in shape and d.opset >= 14 and d.Chance(0.2)
    d.Node(op, [x, d.Constant(shape)], exact=True, allowzero=1 if allow_zero else None)


@Draws("Flatten")
def Flatten(d, op):
    x = d.Operand(MIXED if d.opset >= 9 else F, ranks=(1, 5))
    d.Node(op, [x], exact=True, axis=d.Pick([None, d.Int(-x.rank if d.opset >= 11 else 0, x.rank)]))


@Draws("Squeeze")
def Squeeze(d, op):
    x = d.Operand(MIXED, ranks=(1, 5), test=lambda v: 1 in v.shape)
    ones = [i if d.Chance(0.7) or d.opset < 11 else i - x.rank for i, n in enumerate(x.shape) if n == 1]
    axes = [a for a in ones if d.Chance(0.7)]
    inputs, attributes = Argument(d, axes, 13, "axes") if axes else ([], {})
    d.Node(op, [x, *inputs], exact=True, **attributes)


@Draws("Unsqueeze")
def Unsqueeze(d, op):
    x = d.Operand(MIXED, ranks=(0, 3))
    n = d.Int(1, 2)
    axes = sorted(int(a) for a in d.rng.permutation(x.rank + n)[:n])
    inputs, attributes = Argument(d, [a - x.rank - n if d.opset >= 11 and d.Chance(0.3) else a for a in axes], 13, "axes")
    d.Node(op, [x, *inputs], exact=True, **attributes)


@Draws("Dropout")
def Dropout(d, op):
    x = d.Operand(("f32", "f32", "f64"), ranks=(1, 4))
    # Before opset 12 nothing says what the mask is outside of training.
    outputs = 2 if d.opset >= 12 and d.Chance(0.3) else 1
    if d.opset < 12:
        d.Node(op, [x], outputs, exact=True, ratio=d.Pick([None, 0.3]))
    else:
        d.Node(op, [x] + ([d.Constant(0.3, np.float32)] if d.Chance() else []), outputs, exact=True)


@Draws("Shape")
def ShapeOf(d, op):
    x = d.Operand(MIXED)
    ends = {"start": d.Pick([None, d.Int(-3, 3)]), "end": d.Pick([None, d.Int(-3, 5)])} if d.opset >= 15 else {}
    d.Node(op, [x], exact=True, **ends)


@Draws("Size")
def SizeOf(d, op):
    d.Node(op, [d.Operand(MIXED)], exact=True)


@Draws("Expand")
def Expand(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64", "u8", "bool"), ranks=(0, 3))
    shape = [d.Int(1, 4) if n == 1 else d.Pick([1, n]) for n in x.shape]
    d.Node(op, [x, d.Constant([d.Int(1, 3)] * d.Int(0, 2) + shape[d.Int(0, len(shape)):] if d.Chance(0.2) else
                              [d.Int(1, 3)] * d.Int(0, 1) + shape)], exact=True)


@Draws("Slice")
def Slice(d, op):
    x = d.Operand(MIXED, ranks=(1, 4))
    axes = [a % x.rank for a in Axes(d, x.rank, 1)]
    starts, ends, steps = [], [], []
    for a in axes:
        n, backwards = x.shape[a], d.opset >= 10 and d.Chance(0.25)
        start = d.Int(0, n - 1)
        steps.append(d.Int(1, 2) * (-1 if backwards else 1) if d.opset >= 10 else 1)
        end = d.Pick([-10**6, d.Int(-1, start - 1)]) if backwards else d.Pick([d.Int(start + 1, n), 2**31 - 1])
        starts.append(start - n if d.Chance(0.3) else start)
        ends.append(-n - 1 if end == -1 else end - n if end < n and end >= 0 and d.Chance(0.3) else end)
    if d.opset < 10:
        d.Node(op, [x], exact=True, starts=starts, ends=ends, axes=axes)
        return
    dtype = d.Pick([np.int64, np.int32])
    arguments = [d.Constant(starts, dtype), d.Constant(ends, dtype)]
    if steps != [1] * len(axes) or axes != list(range(len(axes))) or d.Chance():
        arguments.append(d.Constant([a - x.rank if d.Chance(0.3) else a for a in axes], dtype))
        if steps != [1] * len(axes) or d.Chance():
            arguments.append(d.Constant(steps, dtype))
    d.Node(op, [x, *arguments], exact=True)


@Draws("Pad")
def Pad(d, op):
    x = d.Operand(("f32", "f32", "f64") + (("i32", "i64", "u8", "i8") if d.opset >= 11 else ()), ranks=(1, 4))
    mode = d.Pick([None, "constant", "reflect", "edge"] + (["wrap"] if d.opset >= 19 else []))
    most = [n - 1 if mode == "reflect" else n if mode == "wrap" else 3 for n in x.shape]
    pads = [d.Int(0, min(m, 3)) for m in most * 2]
    if mode in (None, "constant") and d.Chance(0.2):
        pads = [-1 if n > 2 and d.Chance(0.3) else p for n, p in zip(x.shape * 2, pads)]
    if d.opset < 11:
        d.Node(op, [x], exact=True, pads=pads, mode=mode, value=d.Pick([None, 1.5]))
        return
    inputs = [d.Constant(pads)]
    if mode in (None, "constant") and d.Chance():
        inputs.append(d.Constant(d.Int(0, 3), x.array.dtype))
    d.Node(op, [x, *inputs], exact=True, mode=mode)


# --- selection ------------------------------------------------------------------------------------


@Draws("TopK")
def TopK(d, op):
    x = d.Operand(("f32", "f32") + (("f64", "i32", "i64") if d.opset >= 11 else ()), ranks=(1, 4))
    axis = OneAxis(d, x.rank)
    k = d.Int(1, x.shape[axis])
    order = {"largest": d.Pick([None, 0, 1])} if d.opset >= 11 else {}
    inputs, attributes = ([], {"k": k}) if d.opset < 10 else ([d.Constant([k])], {})
    d.Node(op, [x, *inputs], 2, exact=True, axis=axis, **order, **attributes)


@Draws("NonZero")
def NonZero(d, op):
    d.Node(op, [d.Operand(("bool", "f32", "i32", "i64", "u8"), ranks=(1, 3))], exact=True)


@Draws("Compress")
def Compress(d, op):
    x = d.Operand(("f32", "f32", "i64", "u8"), ranks=(1, 3))
    axis = d.Pick([None, OneAxis(d, x.rank)])
    n = x.array.size if axis is None else x.shape[axis]
    d.Node(op, [x, d.Operand("bool", like=(d.Int(1, n),))], exact=True, axis=axis)


@Draws("CumSum")
def CumSum(d, op):
    x = d.Operand(("f32", "f32", "f64", "i32", "i64"), ranks=(1, 4))
    d.Node(op, [x, d.Constant(d.Int(-x.rank, x.rank - 1), d.Pick([np.int32, np.int64]))],
           exclusive=d.Pick([None, 0, 1]), reverse=d.Pick([None, 0, 1]))


@Draws("ReverseSequence")
def ReverseSequence(d, op):
    x = d.Operand(("f32", "i64", "u8"), ranks=(2, 4))
    batch = d.Int(0, 1)
    lengths = d.Constant([d.Int(1, x.shape[1 - batch]) for _ in range(x.shape[batch])])
    d.Node(op, [x, lengths], exact=True, batch_axis=batch, time_axis=1 - batch)


@Draws("Unique")
def Unique(d, op):
    x = d.Operand(("f32", "i64"), ranks=(1, 3))
    d.Node(op, [x], [True, d.Chance(), d.Chance(), d.Chance()], exact=True, axis=d.Pick([None, OneAxis(d, x.rank)]),
           sorted=d.Pick([None, 1]))


# --- resize ---------------------------------------------------------------------------------------


@Draws("Resize", "Upsample")
def Resize(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    mode = d.Pick(["nearest", "linear"] + (["cubic"] if op == "Resize" and d.opset >= 11 else []))
    scales = [1.0, 1.0, d.Pick([1.0, 2.0, 3.0, 1.5]), d.Pick([1.0, 2.0, 4.0, 1.25])]
    # Before opset 11 ONNX Runtime rounds up where it shrinks; nothing says so.
    if op == "Resize" and (d.opset >= 11 or mode == "linear") and d.Chance(0.3):
        scales[2:] = [0.5, 0.75]
    # What keeps its size is copied by ONNX Runtime whatever the scale: the tensor, with antialias each axis.
    scales = [1.0 if int(n * s) == n else s for n, s in zip(x.shape, scales)]
    if op == "Upsample" or d.opset < 11:
        attributes = {"scales": scales} if d.opset < 9 else {}
        d.Node(op, [x] + ([d.Constant(scales, np.float32)] if not attributes else []), mode=mode, **attributes)
        return
    attributes = {"mode": mode, "coordinate_transformation_mode": d.Pick(
        [None, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
        + (["half_pixel_symmetric"] if d.opset >= 19 else []))}
    if mode == "nearest":
        attributes["nearest_mode"] = d.Pick([None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        attributes["cubic_coeff_a"] = d.Pick([None, -0.5])
        attributes["exclude_outside"] = d.Pick([None, 1])
    if d.opset >= 18 and mode != "nearest" and d.Chance(0.3):
        attributes["antialias"] = 1
    roi = d.Constant([], np.float32) if d.opset < 13 or d.Chance(0.3) else None
    if d.Chance(0.4):
        sizes = [max(1, int(n * s)) for n, s in zip(x.shape, scales)]
        d.Node(op, [x, roi, d.Constant([], np.float32) if d.opset < 13 else None, d.Constant(sizes)], **attributes)
    else:
        d.Node(op, [x, roi, d.Constant(scales, np.float32)], **attributes)


# --- quantization ---------------------------------------------------------------------------------


def NotQuantized(v):
    # Integer kernels may round a quantized result to the neighbour: nothing may be quantized again.
    return not v.quantized


@Draws("QuantizeLinear")
def QuantizeLinear(d, op):
    x = d.Operand("f32", ranks=(1, 4), test=NotQuantized)
    type_ = d.Pick(("u8", "i8") + (("u16", "i16") if d.opset >= 21 else ()))
    axis = d.Int(-x.rank, x.rank - 1) if d.opset >= 13 and d.Chance(0.3) else None
    shape = () if axis is None else (x.shape[axis],)
    zero = d.Constant(d.Array(type_, shape, -9, 9), NUMPY[type_])
    inputs = [x, d.Constant(d.rng.uniform(0.01, 0.1, shape), np.float32)]
    d.Node(op, inputs + ([zero] if type_ != "u8" or d.Chance(0.8) else []), jitter=True, quantized=True, axis=axis)


@Draws("DequantizeLinear")
def DequantizeLinear(d, op):
    x = d.Operand(("u8", "i8", "i32") + (("u16", "i16") if d.opset >= 21 else ()), -128, 255, ranks=(1, 4))
    axis = d.Int(-x.rank, x.rank - 1) if d.opset >= 13 and d.Chance(0.3) else None
    shape = () if axis is None else (x.shape[axis],)
    inputs = [x, d.Constant(d.rng.uniform(0.01, 0.1, shape), np.float32)]
    zero = d.Constant(np.zeros(shape) if x.type == "i32" else d.Array(x.type, shape, -9, 9), NUMPY[x.type])
    d.Node(op, inputs + ([zero] if d.Chance(0.7) else []), quantized=True, axis=axis)


@Draws("DynamicQuantizeLinear")
def DynamicQuantizeLinear(d, op):
    d.Node(op, [d.Operand("f32", ranks=(1, 4), test=NotQuantized)], 3, jitter=True, quantized=True, tiny=True)


def ZeroPoint(d, type_, shape=()):
    return d.Constant(d.Array(type_, shape, 0, 9), NUMPY[type_])


@Draws("MatMulInteger")
def MatMulInteger(d, op):
    a = d.Operand(("u8", "i8"), -128, 255, ranks=(2, 3))
    b = d.Operand(("u8", "i8"), -128, 255, like=(a.shape[-1], d.Int(1, 5)))
    zeros = [ZeroPoint(d, a.type)] if d.Chance() else []
    if zeros and d.Chance():
        zeros.append(ZeroPoint(d, b.type, d.Pick([(), (b.shape[1],)])))
    d.Node(op, [a, b, *zeros], quantized=True)


def QuantizedImage(d):
    groups = d.Pick([1, 1, 2])
    c, m = groups * d.Int(1, 3), groups * d.Int(1, 3)
    x = d.Fresh("u8", (d.Int(1, 2), c, d.Int(3, 7), d.Int(3, 7)), 0, 255)
    kernel = [d.Int(1, 3), d.Int(1, 3)]
    window = Window(d, x.shape[2:], 2, kernel=kernel)
    return x, (m, c // groups, *kernel), dict(window, group=groups)


@Draws("ConvInteger")
def ConvInteger(d, op):
    x, weights, attributes = QuantizedImage(d)
    w = d.Fresh("u8", weights, 0, 255)
    zeros = [ZeroPoint(d, x.type)] if d.Chance() else []
    if zeros and d.Chance():
        zeros.append(ZeroPoint(d, w.type))
    d.Node(op, [x, w, *zeros], quantized=True, **attributes)


def Scale(d, shape=(), low=0.01, high=0.1):
    return d.Constant(d.rng.uniform(low, high, shape), np.float32)


@Draws("QLinearMatMul")
def QLinearMatMul(d, op):
    a = d.Operand("u8", 0, 255, ranks=(2, 3), test=NotQuantized)
    b = d.Operand(("u8", "i8"), -128, 255, like=(a.shape[-1], d.Int(1, 5)), test=NotQuantized)
    d.Node(op, [a, Scale(d), ZeroPoint(d, a.type), b, Scale(d), ZeroPoint(d, b.type), Scale(d, (), 0.2, 0.9),
                ZeroPoint(d, "u8")], jitter=True, quantized=True)


@Draws("QLinearConv")
def QLinearConv(d, op):
    x, weights, attributes = QuantizedImage(d)
    type_ = d.Pick(["u8", "i8"])
    w = d.Fresh(type_, weights, -128, 255)
    per_channel = (weights[0],) if type_ == "i8" and d.Chance() else ()
    bias = [d.Fresh("i32", (weights[0],), -500, 500)] if d.Chance() else []
    d.Node(op, [x, Scale(d), ZeroPoint(d, "u8"), w, Scale(d, per_channel), d.Constant(np.zeros(per_channel), NUMPY[type_]),
                Scale(d, (), 0.2, 0.9), ZeroPoint(d, "u8"), *bias], jitter=True, quantized=True, **attributes)


# --- recurrent ------------------------------------------------------------------------------------


@Draws("LSTM", "GRU", "RNN")
def Recurrent(d, op):
    x = d.Operand("f32", ranks=(3, 3))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    steps, batch, size = x.shape
    hidden = d.Int(1, 4)
    direction = d.Pick([None, "forward", "reverse", "bidirectional"])
    n = 2 if direction == "bidirectional" else 1
    inputs = [x, d.Fresh("f32", (n, gates * hidden, size), -1, 1), d.Fresh("f32", (n, gates * hidden, hidden), -1, 1)]
    optional = [lambda: d.Fresh("f32", (n, 2 * gates * hidden), -1, 1),
                lambda: d.Constant([d.Int(1, steps) for _ in range(batch)], np.int32),
                lambda: d.Fresh("f32", (n, batch, hidden), -1, 1)]
    if op == "LSTM":
        optional += [lambda: d.Fresh("f32", (n, batch, hidden), -1, 1), lambda: d.Fresh("f32", (n, 3 * hidden), -1, 1)]
    inputs += [make() if d.Chance(0.4) else None for make in optional]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"linear_before_reset": d.Pick([None, 1])} if op == "GRU" else {}
    outputs = [True] + [d.Chance() for _ in range(2 if op == "LSTM" else 1)]
    while not outputs[-1]:
        outputs.pop()
    d.Node(op, inputs, outputs, hidden_size=hidden, direction=direction, **attributes)


# --- control flow ---------------------------------------------------------------------------------


def Chain(d, prefix, start, other, length):
    """Nodes from the name `start` with a partner `other` of the same shape; the last name."""
    nodes, last = [], start
    for i in range(length):
        op = d.Pick(["Tanh", "Sigmoid", "Neg", "Add", "Mul", "Sub"])
        inputs = [last, other] if op in ("Add", "Mul", "Sub") else [last]
        nodes.append(helper.make_node(op, inputs, [f"{prefix}_{i}"]))
        last = nodes[-1].output[0]
    return nodes, last


def Typed(name, type_, shape):
    return helper.make_tensor_value_info(name, ONNX[type_], shape)


@Draws("If")
def If(d, op):
    x = d.Operand("f32", -1, 1)
    y = d.Operand("f32", -1, 1, like=x.shape)
    condition = d.Operand("bool", like=()) if d.Chance(0.7) else d.Feed(np.asarray(d.Chance()), constant=True)
    unique = d.Name()

    def Branch(k):
        nodes, last = Chain(d, f"{unique}_{k}", x.name, y.name, d.Int(1, 3))
        return helper.make_graph(nodes, f"branch_{k}", [], [Typed(last, "f32", x.shape)])
    d.Node(op, [condition], captures=[x, y], then_branch=Branch("then"), else_branch=Branch("else"))


@Draws("Loop")
def Loop(d, op):
    x = d.Operand("f32", -1, 1, ranks=(1, 3))
    y = d.Operand("f32", -1, 1, like=x.shape)
    u = d.Name()
    nodes, last = Chain(d, u, f"{u}_state", y.name, d.Int(1, 3))
    nodes += [helper.make_node("Identity", [f"{u}_go"], [f"{u}_on"]), helper.make_node("Tanh", [last], [f"{u}_next"]),
              helper.make_node("Neg", [f"{u}_next"], [f"{u}_slice"])]
    body = helper.make_graph(
        nodes, "body", [Typed(f"{u}_i", "i64", ()), Typed(f"{u}_go", "bool", ()), Typed(f"{u}_state", "f32", x.shape)],
        [Typed(f"{u}_on", "bool", ()), Typed(f"{u}_next", "f32", x.shape), Typed(f"{u}_slice", "f32", x.shape)])
    d.Node(op, [d.Constant(d.Int(1, 4)), d.Constant(True, np.bool_) if d.Chance() else None, x], 2, captures=[y], body=body)


@Draws("Scan")
def Scan(d, op):
    x = d.Operand("f32", -1, 1, ranks=(2, 3))
    axis = d.Int(0, x.rank - 1)
    shape = x.shape[:axis] + x.shape[axis + 1:]
    state = d.Operand("f32", -1, 1, like=shape)
    u = d.Name()
    nodes, last = Chain(d, u, f"{u}_state", f"{u}_x", d.Int(1, 3))
    nodes += [helper.make_node("Tanh", [last], [f"{u}_next"]), helper.make_node("Neg", [f"{u}_next"], [f"{u}_slice"])]
    body = helper.make_graph(nodes, "body", [Typed(f"{u}_state", "f32", shape), Typed(f"{u}_x", "f32", shape)],
                             [Typed(f"{u}_next", "f32", shape), Typed(f"{u}_slice", "f32", shape)])
    d.Node(op, [state, x], 2, num_scan_inputs=1, body=body, scan_input_axes=[axis],
           scan_input_directions=d.Pick([None, [0], [1]]), scan_output_directions=d.Pick([None, [1]]))


# --- signal, geometry, detection ------------------------------------------------------------------


@Draws("Det")
def Det(d, op):
    n = d.Int(1, 4)
    d.Node(op, [d.Operand(("f32", "f64"), like=(*d.Shape(0, 2, 3), n, n))])


@Draws("GridSample")
def GridSample(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    grid = d.Fresh("f32", (x.shape[0], d.Int(1, 4), d.Int(1, 4), 2), -1.2, 1.2)
    mode = d.Pick(["linear", "nearest", "cubic"] if d.opset >= 20 else ["bilinear", "nearest", "bicubic"])
    d.Node(op, [x, grid], jitter=mode == "nearest", mode=mode, align_corners=d.Pick([None, 1]),
           padding_mode=d.Pick([None, "zeros", "border", "reflection"]))


@Draws("AffineGrid")
def AffineGrid(d, op):
    n, rank = d.Int(1, 2), d.Int(2, 3)
    theta = d.Operand("f32", like=(n, rank, rank + 1))
    d.Node(op, [theta, d.Constant([n, 1, *(d.Int(2, 4) for _ in range(rank))])], align_corners=d.Pick([None, 1]))


@Draws("HannWindow", "HammingWindow", "BlackmanWindow")
def CosineWindow(d, op):
    d.Node(op, [d.Constant(d.Int(2, 12))], periodic=d.Pick([None, 0, 1]))


@Draws("MelWeightMatrix")
def MelWeightMatrix(d, op):
    values = [(d.Int(2, 6), np.int64), (d.Pick([16, 32]), np.int64), (8000, np.int64), (20.0, np.float32), (4000.0, np.float32)]
    d.Node(op, [d.Constant(v, t) for v, t in values])


@Draws("DFT")
def Dft(d, op):
    x = d.Fresh("f32", (d.Int(1, 2), d.Int(2, 9), d.Int(1, 2)))
    inverse = x.shape[2] == 2 and d.Chance()
    axis = {} if d.opset >= 20 else {"axis": 1}
    inputs = [x, None, d.Constant(1)] if d.opset >= 20 else [x]
    d.Node(op, inputs, onesided=1 if not inverse and x.shape[2] == 1 and d.Chance() else None, inverse=1 if inverse else None,
           **axis)


@Draws("STFT")
def Stft(d, op):
    x = d.Fresh("f32", (d.Int(1, 2), 24, 1))
    window = d.Fresh("f32", (8,), 0.1, 1)
    d.Node(op, [x, d.Constant(d.Int(2, 6)), window, d.Constant(8)], onesided=d.Pick([None, 0, 1]))


@Draws("RoiAlign")
def RoiAlign(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    count = d.Int(1, 3)
    corners = np.sort(d.rng.uniform(0, 6, (count, 2, 2)), 1).reshape(count, 4)
    d.Node(op, [x, d.Constant(corners, np.float32), d.Constant(d.rng.integers(0, x.shape[0], count))], jitter=True,
           output_height=d.Int(1, 3), output_width=d.Int(1, 3), sampling_ratio=d.Pick([None, 2]),
           spatial_scale=d.Pick([None, 0.5]), mode=d.Pick([None, "avg", "max"]))


@Draws("MaxRoiPool")
def MaxRoiPool(d, op):
    x = d.Operand("f32", ranks=(4, 4))
    rois = [[d.Int(0, x.shape[0] - 1), 0, 0, x.shape[3] - 1, x.shape[2] - 1] for _ in range(d.Int(1, 3))]
    d.Node(op, [x, d.Constant(rois, np.float32)], exact=True, pooled_shape=[d.Int(1, 2), d.Int(1, 2)])


@Draws("NonMaxSuppression")
def NonMaxSuppression(d, op):
    n, classes = d.Int(1, 8), d.Int(1, 2)
    corners = np.sort(d.rng.uniform(0, 1, (1, n, 2, 2)), 2).reshape(1, n, 4)
    d.Node(op, [d.Constant(corners, np.float32), d.Fresh("f32", (1, classes, n), 0, 1), d.Constant([d.Int(1, 5)]),
                d.Constant([0.4], np.float32)], jitter=True, center_point_box=d.Pick([None, 0, 1]))


@Draws("CenterCropPad")
def CenterCropPad(d, op):
    x = d.Operand(("f32", "i64"), ranks=(1, 3))
    d.Node(op, [x, d.Constant([d.Int(1, 6) for _ in x.shape])], exact=True)


@Draws("Col2Im")
def Col2Im(d, op):
    size, block = [d.Int(3, 5), d.Int(3, 5)], [2, 2]
    count = (size[0] - 1) * (size[1] - 1)
    d.Node(op, [d.Fresh("f32", (1, d.Int(1, 2) * 4, count)), d.Constant(size), d.Constant(block)])


__all__ = ["DRAWS", "UNDRAWN", "TensorProto", "TensorType"]
