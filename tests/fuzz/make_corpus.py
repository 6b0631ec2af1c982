#!/usr/bin/env python3
"""Writes a corpus for a fuzz target: make_corpus.py TARGET FOLDER.

import, plan: ONNX's node tests, once with their inputs as such and once as constants, so that there
is something to fold; the digits model; models with nested graphs, functions and external data.
infer_codec: requests of both protocols. Files that exist stay.
"""
import hashlib
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MAX_BYTES = 4096


# --- protobuf by hand: a message is a list of (field number, int | float | bytes | str | list) ------

def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


# --- requests ---------------------------------------------------------------------------------------

def requests():
    f32x4, types = struct.pack("<4f", 1, 2, 3, 4), range(1, 14)
    tensor = lambda name, t, shape, data: message((1, name), (2, t), *[(3, d) for d in shape], (4, data))
    ids = [tensor("ids", 11, [2, 3], bytes(48)), tensor("mask", 13, [2, 3], bytes(6)),
           tensor("scale", 4, [], bytes(8))]
    for t in types:
        yield message((1, "m"), (5, tensor("x", t, [1, 4], f32x4[: [0, 16, 8, 8, 32, 4, 4, 8, 8, 16, 16, 32, 32, 4][t]])))
    yield message((1, "m"), (2, 1), (3, message((1, "w=i8"))), (4, 2), *[(5, t) for t in ids],
                  (6, message((1, "y"), (2, 1))), (6, message((1, "n"))), (7, "id"), (8, 1))
    yield message((5, tensor("", 1, [2, 4], f32x4 * 2)))
    # The open protocol.
    params = lambda key, number, value: message((1, key), (2, message((number, value))))
    for datatype, field, data in [("FP32", 6, f32x4), ("INT8", 2, b"\1\2\3\4"), ("UINT8", 4, b"\1\2\3\4"),
                                  ("BOOL", 1, b"\1\0\1\0"), ("INT64", 3, b"\1\2\3\4"), ("FP64", 7, bytes(32)),
                                  ("UINT64", 5, b"\1\2\3\4")]:
        contents = message((field, data))
        yield message((1, "m"), (3, "id"), (4, params("timeout", 2, 1000)),
                      (5, message((1, "x"), (2, datatype), (3, b"\1\4"), (5, contents))),
                      (6, message((1, "y"), (2, params("datatype", 3, "FP16")))))
    raw = [message((1, "ids"), (2, "INT64"), (3, b"\2\3")), message((1, "mask"), (2, "BOOL"), (3, b"\2\3")),
           message((1, "scale"), (2, "FP64"))]
    yield message((1, "m"), (4, params("when_missing", 3, "fallback")), *[(5, r) for r in raw],
                  (7, bytes(48)), (7, bytes(6)), (7, bytes(8)))
    for datatype in ["", "BYTES", "FP16", "BF16", "UINT16", "INT16", "INT32", "UINT32"]:
        yield message((5, message((1, "x"), (2, datatype), (3, b"\1\4"))), (7, bytes(8)))


# --- models -----------------------------------------------------------------------------------------

# "@4" is four numbers.
TEXTS = [
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 1, 6, 6] x, bool c) => (float[N, K] y, float[N, 2] z)
    <float[2, 1, 3, 3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[2] b = {0.5, -0.5},
     int64[1] minus_one = {-1}, int64[1] zero = {0}> {
      conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)
      act = Relu(conv)
      shape = Shape(act)
      batch = Gather(shape, zero)
      target = Concat<axis = 0>(batch, minus_one)
      y = Reshape(act, target)
      pooled = ReduceMean<axes = [2, 3], keepdims = 0>(act)
      z = If (c) <then_branch = t () => (float[N, 2] to) { to = Softmax<axis = 1>(pooled) },
                  else_branch = e () => (float[N, 2] eo) { eo = Add(pooled, b) }>
    }""",
    """<ir_version: 8, opset_import: ["" : 16]>
    net (float[2] x) => (float[2] y, float[s, 2] z)
    <int64 n = {3}, bool go = {1}> {
      y, z = Loop (n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool co, float[2] vo, float[2] s) {
        co = Identity(c)
        vo = Add(v, x)
        s = Mul(v, vo)
      }>
    }""",
    """<ir_version: 8, opset_import: ["" : 16]>
    net (float[2] s, float[5, 2] x) => (float[2] y, float[5, 2] z) {
      y, z = Scan <num_scan_inputs = 1, body = b (float[2] a, float[2] v) => (float[2] ao, float[2] o) {
        ao = Add(a, v)
        o = Identity(ao)
      }>(s, x)
    }""",
    """<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
    net (float[2, 4] x) => (float[2, 4] y) { y = local.f<k = 2.0>(x) }
    <opset_import: ["" : 18], domain: "local">
    f <k: float = 1.0> (a) => (b) { c = Constant<value_float: float = @k>() d = Mul(a, c) b = local.g(d) }
    <opset_import: ["" : 18], domain: "local"> g (a) => (b) { b = Elu(a) }""",
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 3] x) => (float[1, 3] y)
    <int64[2] big = {1000, 1000}, float[1] one = {1.0}, int64[2] s = {1, -1}> {
      a = ConstantOfShape(big)
      b = MatMul(a, a)
      c = ReduceSum<keepdims = 0>(b)
      d = Expand(one, s)
      e = Range(c, c, c)
      f = Einsum<equation = "ij,jk->ik">(a, b)
      g = ReduceMax<keepdims = 0>(f)
      y = Add(x, c)
    }""",
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 8] x) => (float[1, 4] y)
    <uint8 xz = {128}, float xs = {0.1}, int8[8, 4] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8},
     float[4] ws = {0.1, 0.2, 0.3, 0.4}, int8[4] wz = {0, 0, 0, 0}> {
      q = QuantizeLinear(x, xs, xz)
      d = DequantizeLinear(q, xs, xz)
      v = DequantizeLinear<axis = 1>(w, ws, wz)
      m = MatMul(d, v)
      r = Relu(m)
      p = QuantizeLinear(r, xs, xz)
      y = DequantizeLinear(p, xs, xz)
    }""",
    # What the planner fuses: products with what precedes and follows them, in f32 and quantized.
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 2, 6, 6] x) => (float[1, 4, 3, 3] y, float[1, 4, 1, 1] m)
    <float[4, 2, 3, 3] w = {@72}, float[4] b = {1, 2, 3, 4}, float[4] one = {1, 1, 1, 1}, float[4, 1, 1] k = {1, 2, 3, 4},
     float[4, 1, 1, 1] w4 = {@4}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float zero = {0}, float six = {6}> {
      c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)
      n = BatchNormalization(c, one, b, b, one)
      s = Mul(n, k)
      a = Add(s, k)
      g = Sigmoid(a)
      h = Mul(a, g)
      r = Clip(h, zero, six)
      d = Conv<kernel_shape = [1, 1], group = 4>(r, w4)
      e = Add(d, r)
      y = Relu(e)
      p = Pad(y, pads)
      q = MaxPool<kernel_shape = [2, 2]>(p)
      m = GlobalAveragePool(q)
    }""",
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 4] x, float[4] v) => (float[N, 3, 3] y, float z, float[3, N, 4] t)
    <float[4, 4] w = {@16}, float[4] b = {1, 2, 3, 4}, float half = {0.5}, float[1] two = {2}> {
      l = LayerNormalization(x, b, b)
      q = MatMul(l, w)
      qb = Add(q, b)
      k = MatMul(x, w)
      kt = Transpose<perm = [0, 2, 1]>(k)
      s = MatMul(qb, kt)
      d = Mul(s, half)
      y = Softmax<axis = -1>(d)
      u = MatMul(v, v)
      uw = Add(u, two)
      z = ReduceSum<keepdims = 0>(uw)
      f = Erf(q)
      g = Mul(f, q)
      t = Transpose<perm = [1, 0, 2]>(g)
    }""",
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 2, 4, 4] x) => (float[1, 4, 4, 4] y, float[1, 4, 1, 1] m)
    <float s = {0.1}, uint8 z = {128}, int8[4, 2, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4] ws = {0.1, 0.2, 0.3, 0.4},
     int8[4] wz = {0, 0, 0, 0}, int32[4] b = {1, 2, 3, 4}, float[4] bs = {0.01, 0.02, 0.03, 0.04}> {
      xq = QuantizeLinear(x, s, z)
      xd = DequantizeLinear(xq, s, z)
      wd = DequantizeLinear<axis = 0>(w, ws, wz)
      bd = DequantizeLinear<axis = 0>(b, bs)
      c = Conv<kernel_shape = [1, 1]>(xd, wd, bd)
      r = Relu(c)
      rq = QuantizeLinear(r, s, z)
      rd = DequantizeLinear(rq, s, z)
      cq = QuantizeLinear(c, s, z)
      cd = DequantizeLinear(cq, s, z)
      a = Add(rd, cd)
      aq = QuantizeLinear(a, s, z)
      y = DequantizeLinear(aq, s, z)
      g = GlobalAveragePool(y)
      gq = QuantizeLinear(g, s, z)
      m = DequantizeLinear(gq, s, z)
    }""",
    """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2, 4] x) => (float[2, 3] y, float[2, 2] t)
    <uint8[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float ws = {0.1}, uint8 wz = {128}, int64[1] k = {2}> {
      q, s, z = DynamicQuantizeLinear(x)
      i = MatMulInteger(q, w, z, wz)
      f = Cast<to = 1>(i)
      p = Mul(s, ws)
      y = Mul(f, p)
      t, j = TopK(x, k)
    }""",
]


def nested(depth):
    """Loops within loops, all of them foldable."""
    body = "v = Identity(one)"
    for i in range(depth):
        body = (f"v{i} = Loop (many, yes, one) <body = b{i} (int64 i{i}, bool c{i}, int64 s{i}) => (bool co{i}, int64 so{i})"
                f" {{ co{i} = Identity(c{i}) {body} so{i} = Add(s{i}, v{'' if i == 0 else i - 1}) }}>")
    return ('<ir_version: 8, opset_import: ["" : 17]> net (int64 x) => (int64 y)'
            f" <int64 many = {{100}}, bool yes = {{1}}, int64 one = {{1}}> {{ {body} y = Add(x, v{depth - 1}) }}")


def texts():
    import onnx.parser
    for text in TEXTS + [nested(1), nested(3), nested(14)]:
        text = re.sub(r"@(\d+)", lambda m: ", ".join(["0.5"] * int(m[1])), text)
        yield onnx.parser.parse_model(text).SerializeToString()
    # External data in every shape that a location can have.
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[2] x) => (float[2] y) { y = Add(x, w) }')
    w = model.graph.initializer.add(name="w", data_type=1, dims=[2], data_location=1)
    for entries in [{"location": "w"}, {"location": "sub/w", "offset": "8", "length": "8"}, {"location": "out"},
                    {"location": "../secret"}, {"location": "/etc/passwd"}, {"location": "empty", "length": "0"}]:
        del w.external_data[:]
        for key, value in entries.items():
            w.external_data.add(key=key, value=value)
        yield model.SerializeToString()


def with_constants(model, inputs):
    """The model with all inputs but the first as initializers; and with all of them."""
    import onnx
    from onnx import numpy_helper
    names = [i.name for i in model.graph.input]
    for first in (1, 0):
        out = onnx.ModelProto()
        out.CopyFrom(model)
        for name, value in list(zip(names, inputs))[first:]:
            if not hasattr(value, "dtype"):
                return
            out.graph.initializer.append(numpy_helper.from_array(value, name))
        del out.graph.input[first:]
        if len(names) > first:
            yield out.SerializeToString()


def node_tests():
    import warnings
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases
    for case in collect_testcases(None):
        if case.model is None:
            continue
        yield case.model.SerializeToString()
        for inputs, _ in case.data_sets or []:
            try:
                yield from with_constants(case.model, inputs)
            except (TypeError, ValueError):  # types that numpy_helper does not know
                pass


def models():
    yield from texts()
    try:
        yield from node_tests()
    except ImportError as e:
        print(f"make_corpus: no node tests: {e}", file=sys.stderr)
    yield (ROOT / "examples/digits/model.onnx").read_bytes()


def main():
    target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for data in {"import": models, "plan": models, "infer_codec": requests}[target]():
        if len(data) > MAX_BYTES:
            continue
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
        count += 1
    print(f"make_corpus: {count} files in {folder}")


if __name__ == "__main__":
    main()
