"""Resize, quantization, recurrent networks, control flow, signals, detection."""
import numpy as np
from onnx import helper

from common import Draws, Window
from roads import NUMPY, ONNX

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
        # The symmetric positions of sizes that 5 and 3 make lie on whole numbers, up to the last bit.
        if attributes["coordinate_transformation_mode"] == "half_pixel_symmetric":
            attributes["coordinate_transformation_mode"] = "half_pixel"
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
    # The rank alone: another batch may come.
    return helper.make_tensor_value_info(name, ONNX[type_], [None] * len(shape))


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
    batched = d.opset < 9  # every sample of a batch is scanned on its own, along its first axis
    x = d.Operand("f32", -1, 1, ranks=(3, 3) if batched else (2, 3))
    axis = 1 if batched else d.Int(0, x.rank - 1)
    shape = x.shape[2:] if batched else x.shape[:axis] + x.shape[axis + 1:]
    state = d.Operand("f32", -1, 1, like=(x.shape[0], *shape) if batched else shape)
    u = d.Name()
    nodes, last = Chain(d, u, f"{u}_state", f"{u}_x", d.Int(1, 3))
    nodes += [helper.make_node("Tanh", [last], [f"{u}_next"]), helper.make_node("Neg", [f"{u}_next"], [f"{u}_slice"])]
    body = helper.make_graph(nodes, "body", [Typed(f"{u}_state", "f32", shape), Typed(f"{u}_x", "f32", shape)],
                             [Typed(f"{u}_next", "f32", shape), Typed(f"{u}_slice", "f32", shape)])
    if batched:
        d.Node(op, [None, state, x], 2, num_scan_inputs=1, body=body, directions=d.Pick([None, [0], [1]]))
        return
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


# --- counts, losses -------------------------------------------------------------------------------


@Draws("TfIdfVectorizer")
def TfIdfVectorizer(d, op):
    x = d.Fresh(d.Pick(["i32", "i64"]), d.Pick([(d.Int(1, 9),), (d.Int(1, 3), d.Int(1, 9))]), 1, 4)
    d.Node(op, [x], exact=True, mode=d.Pick(["TF", "IDF", "TFIDF"]), min_gram_length=1, max_gram_length=d.Int(1, 2),
           max_skip_count=d.Int(0, 2), ngram_counts=[0, 2], ngram_indexes=[0, 1, 2, 3], pool_int64s=[1, 3, 1, 2, 2, 2],
           weights=d.Pick([None, [0.5, 1.0, 2.0, 3.0]]))


@Draws("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def Loss(d, op):
    x = d.Operand("f32", ranks=(2, 4))
    classes = d.Constant(d.rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:])))
    weights = [d.Fresh("f32", (x.shape[1],), 0.2, 2)] if d.Chance() else []
    outputs = 2 if op.startswith("Softmax") and d.Chance() else 1
    d.Node(op, [x, classes, *weights], outputs, reduction=d.Pick([None, "none", "sum", "mean"]),
           ignore_index=d.Pick([None, 0]) if x.shape[1] > 1 and not weights else None)
