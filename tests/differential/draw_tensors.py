"""Operators that make, move, select and reshape."""
import numpy as np
from onnx import helper

from common import ANY, Argument, Axes, Draws, F, INTS, MIXED, OneAxis, SIGNED
from drawing import FLOATS, Rejected
from roads import NUMPY, ONNX

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
