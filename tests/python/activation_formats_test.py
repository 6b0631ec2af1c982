#!/usr/bin/env python3
"""Variants with every kind of quantized activations, with compute hints and of fp64 models: ONNX's checker accepts
them, ONNX Runtime runs them and agrees.

usage: activation_formats_test.py --build FOLDER
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

from exported_variants_test import Export, OnnxAndRuntime, Sqnr
from halftone_server import Client, Server
from soak_test import Calibrate
from weight_formats_test import Model

# Spec → least SQNR in dB against ONNX Runtime. Integers of 8 bits are rounded elsewhere by integer kernels; 16 bits
# are rounded alike, but for the last bit of what is rounded; ONNX Runtime has no bf16 arithmetic.
SPECS = {"int8/per-channel/static": 30, "int8/per-channel/static/act=int8": 30,
         "int8/per-channel/static/act=int16": 75, "int8/per-channel/static/act=uint16": 75,
         "int8/per-channel/dynamic": 35, "int8/per-channel/dynamic-per-token": 35,
         "fp32/compute=f32": 90, "fp32/compute=tf32": 90, "fp32/compute=bf16": 35, "bf16/compute=f32": 90}
# What the file must hold: TensorProto.DataType of the codes, or an operator.
STORED = {"act=int8": 3, "act=int16": 5, "act=uint16": 4, "dynamic-per-token": "DynamicQuantizeRows"}


def Tokens(dtype):
    """x[N, S, 48] -> y[N, S, 10]: products of rows; tokens of very different sizes need scales of their own."""
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(5)
    weights = [numpy_helper.from_array((rng.standard_normal(s) / np.sqrt(s[0])).astype(dtype), n)
               for n, s in (("w0", (48, 96)), ("b0", (96,)), ("w1", (96, 10)))]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"], name="up"),
             helper.make_node("Add", ["h", "b0"], ["hb"], name="bias"),
             helper.make_node("Relu", ["hb"], ["r"], name="relu"),
             helper.make_node("MatMul", ["r", "w1"], ["y"], name="down")]
    kind = TensorProto.DOUBLE if dtype == np.float64 else TensorProto.FLOAT
    info = lambda name, n: helper.make_tensor_value_info(name, kind, ["N", "S", n])
    graph = helper.make_graph(nodes, "tokens", [info("x", 48)], [info("y", 10)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def TokenInputs(dtype, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((2, 7, 48)) * 2.0 ** rng.integers(-4, 3, (2, 7, 1))).astype(dtype)


def Holds(model, spec):
    """False when the file lacks what the spec is about."""
    for word, wanted in STORED.items():
        if word not in spec.split("/"):
            continue
        if isinstance(wanted, str):
            return any(n.op_type == wanted for n in model.graph.node)
        zero_points = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        types_of = {t.name: t.data_type for t in model.graph.initializer}
        return zero_points and all(types_of[z] == wanted for z in zero_points)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build
    onnx, ort = OnnxAndRuntime()
    images = lambda seed: np.random.default_rng(seed).standard_normal((3, 16, 12, 12)).astype(np.float32)
    cases = {"layers": (Model(), images), "tokens": (Tokens(np.float32), lambda s: TokenInputs(np.float32, s)),
             "tokens64": (Tokens(np.float64), lambda s: TokenInputs(np.float64, s))}
    problems = []
    with Server(build) as server:
        client = Client(server.target)
        for name, (model, inputs) in cases.items():
            client.Upload(name, model.SerializeToString())
            Calibrate(client, name, [inputs(s) for s in range(10, 26)])
            x = inputs(3)
            for spec, min_sqnr in SPECS.items():
                result = client.Quantize(name, spec)
                with tempfile.TemporaryDirectory() as folder:
                    path = Export(client, name, spec, pathlib.Path(folder))
                    onnx.checker.check_model(str(path), full_check=True)
                    exported = onnx.load(str(path), load_external_data=False)
                    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                    theirs = session.run(None, {"x": x})[0]
                ours = client.Infer(name, spec, x)
                sqnr = Sqnr(theirs, ours)
                print(f"{name:10} {spec:40} SQNR against ONNX Runtime {sqnr:6.1f} dB", flush=True)
                if sqnr < min_sqnr or ours.dtype != x.dtype:
                    problems.append(f"{name} {spec}: SQNR {sqnr:.1f}, {ours.dtype}")
                if not Holds(exported, spec):
                    problems.append(f"{name} {spec}: the file has other activations")
                said = any("fp64 model computed in fp32" in w for w in result.report.warnings)
                if said != (x.dtype == np.float64):
                    problems.append(f"{name} {spec}: {result.report.warnings}")
    if problems:
        sys.exit("; ".join(problems))


if __name__ == "__main__":
    main()
