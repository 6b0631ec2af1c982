#!/usr/bin/env python3
"""Weight-only variants of every integer format: ONNX's checker accepts them, ONNX Runtime runs them and agrees.

usage: weight_formats_test.py --build FOLDER
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

from exported_variants_test import Export, OnnxAndRuntime, Sqnr
from halftone_server import Client, Server

TYPES = ["int16", "int8", "uint8", "int4", "uint4", "ternary", "binary"]
GRANULARITIES = ["per-tensor", "per-channel", "per-channel-axis-0", "per-group-16", "per-group-32"]
MIN_SQNR = 90  # both compute in f32
# Shares of the fp32 weights that a file may take. Groups pay for their scales; what stays f32 (the bias) does too.
SHARES = {"int16": 0.55, "int8": 0.30, "uint8": 0.30, "int4": 0.20, "uint4": 0.20, "ternary": 0.12, "binary": 0.09}


def Model():
    """Every kind of layer that has narrow weights, one behind the other: x f32[N,16,12,12] -> f32[N,10]."""
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(11)
    weights, nodes, value = [], [], "x"

    def Constant(name, array):
        weights.append(numpy_helper.from_array(array, name))
        return name

    def Layer(op, shape, bias=None, **attributes):
        nonlocal value
        name = f"{op.lower()}{len(nodes)}"
        fan_in = np.prod(shape) / max(shape[0], shape[1])
        w = (rng.standard_normal(shape) / np.sqrt(fan_in) * rng.uniform(0.5, 2, shape)).astype(np.float32)
        inputs = [value, Constant(name + "_w", w)]
        if bias:
            inputs.append(Constant(name + "_b", rng.standard_normal(bias).astype(np.float32)))
        nodes.append(helper.make_node(op, inputs, [name + "_y"], name=name, **attributes))
        value = name + "_y"

    def Other(op, *inputs, **attributes):
        nonlocal value
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, [value, *inputs], [name + "_y"], name=name, **attributes))
        value = name + "_y"

    Layer("Conv", (32, 16, 3, 3), bias=32, pads=[1, 1, 1, 1])
    Other("Relu")
    Layer("Conv", (48, 16, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    Layer("Conv", (48, 1, 3, 3), group=48, pads=[1, 1, 1, 1])
    Other("Relu")
    Layer("ConvTranspose", (48, 32, 2, 2), strides=[2, 2])
    Layer("ConvTranspose", (32, 8, 3, 3), group=4, pads=[1, 1, 1, 1])
    Other("Relu")
    Other("Reshape", Constant("as_sequence", np.array([-1, 32, 144], np.int64)))
    Layer("Conv", (24, 32, 5), strides=[3])
    Other("GlobalAveragePool")
    Other("Flatten")
    Layer("MatMul", (24, 65))
    Layer("Gemm", (65, 40), bias=40)
    Other("Relu")
    Layer("Gemm", (10, 40), transB=1)
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "layers", [info("x", ["N", 16, 12, 12])], [info(value, ["N", 10])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def Specs():
    for weights in TYPES:
        for granularity in GRANULARITIES:
            for scheme in ("symmetric",) if weights in ("ternary", "binary") else ("symmetric", "affine"):
                yield f"{weights}/{granularity}/weight-only/{scheme}"


def Bytes(model):
    """Of all initializers."""
    width = {1: 4, 2: 1, 3: 1, 5: 2, 7: 8, 21: 0.5, 22: 0.5}  # TensorProto.DataType → bytes
    return sum(int(np.prod(t.dims)) * width[t.data_type] for t in model.graph.initializer)


class Checks:
    """One server, both libraries, and what went wrong so far."""

    def __init__(self, client, model):
        self.client = client
        self.onnx, self.ort = OnnxAndRuntime()
        self.x = np.random.default_rng(3).standard_normal((3, 16, 12, 12)).astype(np.float32)
        self.fp32_bytes = Bytes(model)
        self.problems = []

    def Theirs(self, path):
        """ONNX Runtime's answer, once ONNX's checker has accepted the file."""
        self.onnx.checker.check_model(str(path), full_check=True)
        options = self.ort.SessionOptions()
        # By default ONNX Runtime multiplies 4-bit groups with activations that it rounds to 8 bits.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        session = self.ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": self.x})[0]

    def Agree(self, what, theirs, ours, share=0.0):
        sqnr = Sqnr(theirs, ours)
        print(f"{what:60} {share:.3f} of fp32, SQNR against ONNX Runtime {sqnr:6.1f} dB", flush=True)
        if sqnr < MIN_SQNR:
            self.problems.append(f"{what}: SQNR {sqnr:.1f}")

    def Share(self, path):
        return Bytes(self.onnx.load(str(path), load_external_data=False)) / self.fp32_bytes

    def Variant(self, spec, folder):
        result = self.client.Quantize("layers", spec)
        path = Export(self.client, "layers", spec, folder / "variant")
        share = self.Share(path)
        self.Agree(spec, self.Theirs(path), self.client.Infer("layers", spec, self.x), share)
        kind, granularity = spec.split("/")[:2]
        if granularity == "per-channel" and share > SHARES[kind]:
            self.problems.append(f"{spec}: {share:.3f} of fp32")
        floats = [l.node for l in result.report.layers if not l.precision.startswith(kind)]
        if floats:
            self.problems.append(f"{spec}: {floats} stayed float")

    def Training(self, spec, folder):
        """To a training framework and back: the same answers all the way, and as few bits as before."""
        path = Export(self.client, "layers", spec, folder / "to_train", for_training=True)
        theirs = self.Theirs(path)
        self.Agree(f"{spec} for training", theirs, self.client.Infer("layers", spec, self.x), self.Share(path))
        self.client.Upload("trained", self.onnx.load(str(path)).SerializeToString())
        back = Export(self.client, "trained", "fp32", folder / "back")
        self.Agree(f"{spec} uploaded again", theirs, self.client.Infer("trained", "fp32", self.x), self.Share(back))
        was = self.Share(folder / "variant" / "model.onnx")
        if self.Share(back) > 1.1 * was + 0.01:
            self.problems.append(f"{spec}: {self.Share(back):.3f} of fp32 after training, {was:.3f} before")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build
    model = Model()
    with Server(build) as server:
        client = Client(server.target)
        checks = Checks(client, model)
        client.Upload("layers", model.SerializeToString())
        for spec in Specs():
            with tempfile.TemporaryDirectory() as folder:
                checks.Variant(spec, pathlib.Path(folder))
                if spec.split("/")[0] in ("int8", "int4", "ternary", "binary"):
                    checks.Training(spec, pathlib.Path(folder))
    if checks.problems:
        sys.exit("; ".join(checks.problems))


if __name__ == "__main__":
    main()
