#!/usr/bin/env python3
"""Writes the models of the benchmark: known architectures with seeded random weights.

    python3 bench/models.py --out build/bench/models [--check] [NAME...]

Only speed is measured on them, but the numbers stay as sane as those of a trained network: every
BatchNormalization carries the statistics of its own input (taken from a run of the network with
InstanceNormalization in its place, on one noise image, then disturbed a little), so activations
neither die out nor explode however deep the network is. The graphs are spelled the way torch.onnx
spells them (opset 17, dynamic batch "N"): separate Q, K and V, Reshape targets computed from
Shape, GELU through Erf. A model is written again when this file has changed.
"""
import argparse
import hashlib
import math
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ort_util

OPSET = 17
IMAGE = (3, 224, 224)


class Builder:
    """Collects nodes and weights. `statistics` is None in the first of two passes: see Norm."""

    def __init__(self, name, input_shape, seed, statistics=None):
        self.name, self.input_shape, self.statistics = name, input_shape, statistics
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.norm_inputs = [], [], []
        self.count = 0

    def Node(self, op, inputs, **attributes):
        self.count += 1
        output = f"/{self.name}/{op}_{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def Weight(self, array, label="w"):
        self.count += 1
        name = f"{self.name}.{label}{self.count}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def Normal(self, shape, std):
        return (self.rng.standard_normal(shape, dtype=np.float32) * np.float32(std))

    def Uniform(self, low, high, n):
        return self.rng.uniform(low, high, n).astype(np.float32)

    def Constant(self, value, dtype):
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.Node("Constant", [], value=tensor)

    def Scalar(self, value):
        return self.Constant(value, np.float32)

    def Ints(self, *values):
        return self.Constant(values, np.int64)

    # --- layers ---

    def Conv(self, x, cin, cout, kernel, stride=1, groups=1, bias=False, gain=2.0):
        """`gain` is 2 where a ReLU-like function follows (He) and 1 where none does."""
        fan_in = cin // groups * kernel * kernel
        w = self.Normal((cout, cin // groups, kernel, kernel), math.sqrt(gain / fan_in))
        inputs = [x, self.Weight(w)]
        if bias:
            inputs.append(self.Weight(self.Normal((cout,), 0.1), "b"))
        pad = (kernel - 1) // 2 if kernel != stride else 0
        return self.Node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                         pads=[pad] * 4, dilations=[1, 1], group=groups)

    def Norm(self, x, channels, epsilon=1e-5):
        gamma = self.Weight(self.Uniform(0.8, 1.2, channels), "gamma")
        beta = self.Weight(self.Normal((channels,), 0.1), "beta")
        shift, stretch = self.Normal((channels,), 0.05), self.Uniform(0.9, 1.1, channels)
        index = len(self.norm_inputs)
        self.norm_inputs.append(x)
        if self.statistics is None:
            return self.Node("InstanceNormalization", [x, gamma, beta], epsilon=epsilon)
        mean, var = self.statistics[index]
        mean = self.Weight(mean + shift * np.sqrt(var), "mean")
        var = self.Weight(var * stretch, "var")
        return self.Node("BatchNormalization", [x, gamma, beta, mean, var], epsilon=epsilon,
                         momentum=0.9)

    def Activate(self, x, kind):
        if kind == "relu6":
            return self.Node("Clip", [x, self.Scalar(0.0), self.Scalar(6.0)])
        if kind == "silu":
            return self.Node("Mul", [x, self.Node("Sigmoid", [x])])
        if kind == "gelu":
            erf = self.Node("Erf", [self.Node("Div", [x, self.Scalar(math.sqrt(2.0))])])
            y = self.Node("Mul", [x, self.Node("Add", [erf, self.Scalar(1.0)])])
            return self.Node("Mul", [y, self.Scalar(0.5)])
        op = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid"}.get(kind)
        if op:
            return self.Node(op, [x])
        if kind == "hardsigmoid":
            return self.Node("HardSigmoid", [x], alpha=1.0 / 6.0, beta=0.5)
        assert kind == "none", kind
        return x

    def ConvNormAct(self, x, cin, cout, kernel, stride=1, groups=1, act="relu", epsilon=1e-5):
        gain = 1.0 if act == "none" else 2.0
        y = self.Conv(x, cin, cout, kernel, stride, groups, gain=gain)
        return self.Activate(self.Norm(y, cout, epsilon), act)

    def Gemm(self, x, cin, cout, gain=1.0):
        w = self.Weight(self.Normal((cout, cin), math.sqrt(gain / cin)))
        b = self.Weight(self.Normal((cout,), 0.1), "b")
        return self.Node("Gemm", [x, w, b], alpha=1.0, beta=1.0, transB=1)

    def Linear(self, x, cin, cout, gain=1.0):
        """A Linear layer on a rank-3 input, as torch.onnx writes it."""
        w = self.Weight(self.Normal((cin, cout), math.sqrt(gain / cin)), "MatMul_")
        b = self.Weight(self.Normal((cout,), 0.02), "b")
        return self.Node("Add", [b, self.Node("MatMul", [x, w])])

    def LayerNorm(self, x, d, epsilon):
        gamma = self.Weight(self.Uniform(0.8, 1.2, d), "gamma")
        beta = self.Weight(self.Normal((d,), 0.05), "beta")
        return self.Node("LayerNormalization", [x, gamma, beta], axis=-1, epsilon=epsilon)

    def SqueezeExcite(self, x, channels, squeezed, act, gate):
        s = self.Node("GlobalAveragePool", [x])
        s = self.Activate(self.Conv(s, channels, squeezed, 1, bias=True), act)
        s = self.Activate(self.Conv(s, squeezed, channels, 1, bias=True, gain=1.0), gate)
        return self.Node("Mul", [s, x])

    def PooledHead(self, x, channels, classes=1000):
        x = self.Node("Flatten", [self.Node("GlobalAveragePool", [x])], axis=1)
        return self.Gemm(x, channels, classes)

    def ReshapeLike(self, x, source, *tail):
        """Reshape to [shape(source)[0], shape(source)[1], *tail], spelled as torch.onnx does."""
        dims = []
        for axis in (0, 1):
            size = self.Node("Gather", [self.Node("Shape", [source]),
                                        self.Constant(axis, np.int64)], axis=0)
            dims.append(self.Node("Unsqueeze", [size, self.Ints(0)]))
        dims += [self.Ints(t) for t in tail]
        return self.Node("Reshape", [x, self.Node("Concat", dims, axis=0)], allowzero=0)

    def Attend(self, q, k, v):
        """softmax(q kT / sqrt(d)) v on [N, heads, tokens, d]; k arrives transposed."""
        scores = self.Node("Div", [self.Node("MatMul", [q, k]), self.Scalar(8.0)])
        y = self.Node("MatMul", [self.Node("Softmax", [scores], axis=-1), v])
        return self.Node("Transpose", [y], perm=[0, 2, 1, 3])

    def FeedForward(self, x, d, hidden):
        return self.Linear(self.Activate(self.Linear(x, d, hidden, 2.0), "gelu"), hidden, d)

    def Finish(self, output, extra_outputs=()):
        self.nodes.append(helper.make_node("Identity", [output], ["output"], name="/output"))
        float_info = lambda name, shape: helper.make_tensor_value_info(
            name, TensorProto.FLOAT, shape)
        outputs = [float_info("output", None)] + [float_info(e, None) for e in extra_outputs]
        graph = helper.make_graph(self.nodes, self.name,
                                  [float_info("input", ["N", *self.input_shape])], outputs,
                                  self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  producer_name="halftone-bench", ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model)
        del model.graph.output[:]
        model.graph.output.extend(inferred.graph.output)
        return model


# --- architectures: each takes a Builder and the input's name and returns the output's name ---


def Resnet50(b, x):
    """Version 1.5: the stride sits in the 3x3 convolution."""
    x = b.ConvNormAct(x, 3, 64, 7, 2)
    x = b.Node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
               dilations=[1, 1], ceil_mode=0)
    cin = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = b.ConvNormAct(x, cin, width, 1)
            y = b.ConvNormAct(y, width, width, 3, stride)
            y = b.ConvNormAct(y, width, width * 4, 1, act="none")
            if block == 0:
                x = b.ConvNormAct(x, cin, width * 4, 1, stride, act="none")
            x, cin = b.Activate(b.Node("Add", [y, x]), "relu"), width * 4
    return b.PooledHead(x, cin)


def InvertedResidual(b, x, cin, expanded, cout, kernel, stride, act, epsilon, excite=None):
    y = x
    if expanded != cin:
        y = b.ConvNormAct(y, cin, expanded, 1, act=act, epsilon=epsilon)
    y = b.ConvNormAct(y, expanded, expanded, kernel, stride, expanded, act, epsilon)
    if excite:
        y = b.SqueezeExcite(y, expanded, *excite)
    y = b.ConvNormAct(y, expanded, cout, 1, act="none", epsilon=epsilon)
    return b.Node("Add", [x, y]) if stride == 1 and cin == cout else y


def MobilenetV2(b, x):
    x, cin = b.ConvNormAct(x, 3, 32, 3, 2, act="relu6"), 32
    for expand, cout, repeat, first_stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(repeat):
            stride = first_stride if i == 0 else 1
            x = InvertedResidual(b, x, cin, cin * expand, cout, 3, stride, "relu6", 1e-5)
            cin = cout
    return b.PooledHead(b.ConvNormAct(x, cin, 1280, 1, act="relu6"), 1280)


def MobilenetV3Large(b, x):
    eps = 1e-3
    x, cin = b.ConvNormAct(x, 3, 16, 3, 2, act="hardswish", epsilon=eps), 16
    for kernel, expanded, cout, excited, act, stride in (
            (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1),
            (5, 72, 40, 24, "relu", 2), (5, 120, 40, 32, "relu", 1), (5, 120, 40, 32, "relu", 1),
            (3, 240, 80, 0, "hardswish", 2), (3, 200, 80, 0, "hardswish", 1),
            (3, 184, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1),
            (3, 480, 112, 120, "hardswish", 1), (3, 672, 112, 168, "hardswish", 1),
            (5, 672, 160, 168, "hardswish", 2), (5, 960, 160, 240, "hardswish", 1),
            (5, 960, 160, 240, "hardswish", 1)):
        excite = (excited, "relu", "hardsigmoid") if excited else None
        x = InvertedResidual(b, x, cin, expanded, cout, kernel, stride, act, eps, excite)
        cin = cout
    x = b.Node("GlobalAveragePool", [b.ConvNormAct(x, cin, 960, 1, act="hardswish", epsilon=eps)])
    x = b.Activate(b.Gemm(b.Node("Flatten", [x], axis=1), 960, 1280, 2.0), "hardswish")
    return b.Gemm(x, 1280, 1000)


def EfficientnetB0(b, x):
    x, cin = b.ConvNormAct(x, 3, 32, 3, 2, act="silu"), 32
    for expand, kernel, first_stride, cout, repeat in (
            (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)):
        for i in range(repeat):
            stride = first_stride if i == 0 else 1
            x = InvertedResidual(b, x, cin, cin * expand, cout, kernel, stride, "silu", 1e-5,
                                 (max(1, cin // 4), "silu", "sigmoid"))
            cin = cout
    return b.PooledHead(b.ConvNormAct(x, cin, 1280, 1, act="silu"), 1280)


def BertBase(b, x):
    """The encoder alone: 12 post-norm layers on [N, 128, 768] floats."""
    d = 768
    for _ in range(12):
        q = b.ReshapeLike(b.Linear(x, d, d), x, 12, 64)
        k = b.ReshapeLike(b.Linear(x, d, d), x, 12, 64)
        v = b.ReshapeLike(b.Linear(x, d, d), x, 12, 64)
        y = b.Attend(b.Node("Transpose", [q], perm=[0, 2, 1, 3]),
                     b.Node("Transpose", [k], perm=[0, 2, 3, 1]),
                     b.Node("Transpose", [v], perm=[0, 2, 1, 3]))
        y = b.Linear(b.ReshapeLike(y, y, d), d, d)
        x = b.LayerNorm(b.Node("Add", [y, x]), d, 1e-12)
        x = b.LayerNorm(b.Node("Add", [b.FeedForward(x, d, 3072), x]), d, 1e-12)
    return x


def VitB16(b, x):
    """Pre-norm, 196 patches and a class token, one packed QKV matmul per layer."""
    d = 768
    x = b.Conv(x, 3, d, 16, 16, bias=True, gain=1.0)
    x = b.ReshapeLike(x, x, -1)
    batch = b.Node("Gather", [b.Node("Shape", [x]), b.Ints(0)], axis=0)
    x = b.Node("Transpose", [x], perm=[0, 2, 1])
    target = b.Node("Concat", [batch, b.Ints(1, d)], axis=0)
    token = b.Node("Expand", [b.Weight(b.Normal((1, 1, d), 0.5), "class_token"), target])
    x = b.Node("Concat", [token, x], axis=1)
    x = b.Node("Add", [x, b.Weight(b.Normal((1, 197, d), 0.1), "position")])
    for _ in range(12):
        y = b.LayerNorm(x, d, 1e-6)
        qkv = b.ReshapeLike(b.Linear(y, d, 3 * d), y, 3, 12, 64)
        qkv = b.Node("Transpose", [qkv], perm=[2, 0, 3, 1, 4])
        q, k, v = (b.Node("Gather", [qkv, b.Constant(i, np.int64)], axis=0) for i in range(3))
        y = b.Attend(q, b.Node("Transpose", [k], perm=[0, 1, 3, 2]), v)
        x = b.Node("Add", [x, b.Linear(b.ReshapeLike(y, y, d), d, d)])
        x = b.Node("Add", [x, b.FeedForward(b.LayerNorm(x, d, 1e-6), d, 3072)])
    x = b.Node("Gather", [b.LayerNorm(x, d, 1e-6), b.Constant(0, np.int64)], axis=1)
    return b.Gemm(x, d, 1000)


def Mlp(b, x):
    x = b.Activate(b.Gemm(x, 784, 1024, 2.0), "relu")
    x = b.Activate(b.Gemm(x, 1024, 1024, 2.0), "relu")
    return b.Gemm(x, 1024, 10)


MODELS = {
    "resnet50": (Resnet50, IMAGE),
    "mobilenet_v2": (MobilenetV2, IMAGE),
    "mobilenet_v3_large": (MobilenetV3Large, IMAGE),
    "efficientnet_b0": (EfficientnetB0, IMAGE),
    "bert_base": (BertBase, (128, 768)),
    "vit_b_16": (VitB16, IMAGE),
    "mlp": (Mlp, (784,)),
}


def Seed(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def Run(model, x):
    return ort_util.CreateSession(model.SerializeToString()).run(None, {"input": x})


def Statistics(name, network, shape):
    """Mean and variance per channel of what each Norm layer sees, on one noise image."""
    b = Builder(name, shape, Seed(name))
    output = network(b, "input")
    if not b.norm_inputs:
        return []
    x = np.random.default_rng(1).standard_normal((1, *shape), dtype=np.float32)
    activations = Run(b.Finish(output, b.norm_inputs), x)[1:]
    # Three digits, so that the file does not depend on how the run rounded.
    digits = np.vectorize(lambda v: float(f"{v:.2e}"), otypes=[np.float32])
    return [(digits(a.mean(axis=(0, 2, 3), dtype=np.float64)),
             digits(a.var(axis=(0, 2, 3), dtype=np.float64) + 1e-3)) for a in activations]


def Build(name):
    network, shape = MODELS[name]
    b = Builder(name, shape, Seed(name), Statistics(name, network, shape))
    return b.Finish(network(b, "input"))


def Ensure(name, folder):
    """Path of the model's file, written first if it is absent or older than this script."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, stamp = folder / f"{name}.onnx", folder / f"{name}.stamp"
    version = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    if not path.exists() or not stamp.exists() or stamp.read_text() != version:
        print(f"writing {path}", file=sys.stderr)
        onnx.save(Build(name), path)
        stamp.write_text(version)
    return path


def Check(name, path):
    """Fails unless the outputs are finite, of ordinary size, and differ between inputs."""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    x = np.random.default_rng(2).standard_normal((2, *MODELS[name][1]), dtype=np.float32)
    y = Run(model, x)[0]
    difference = float(np.std(y[0] - y[1]))
    kinds = sorted({n.op_type for n in model.graph.node})
    print(f"{name}: {len(model.graph.node)} nodes, {path.stat().st_size / 1e6:.1f} MB, output "
          f"{list(y.shape)} std {y.std():.3f}, between inputs {difference:.3f}; {' '.join(kinds)}")
    if not (np.isfinite(y).all() and 0.05 < y.std() < 20 and difference > 0.01):
        sys.exit(f"{name}: the outputs are degenerate")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--out", default="build/bench/models")
    parser.add_argument("--check", action="store_true", help="run them with ONNX Runtime, too")
    args = parser.parse_args()
    for name in args.names or MODELS:
        if name not in MODELS:
            parser.error(f"no model {name!r}, there are: {', '.join(MODELS)}")
        path = Ensure(name, args.out)
        if args.check:
            Check(name, path)


if __name__ == "__main__":
    main()
