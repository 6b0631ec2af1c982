#!/usr/bin/env python3
"""Wherever ONNX's shape inference knows a type, a rank or a dimension, ours knows the same.

Every named value of the real models, as they are and without the shapes that they declare, and of ONNX's node tests,
without declared shapes and also with all input dimensions symbolic.

usage: shape_inference_test.py --build FOLDER [--only REGEX]
"""
import argparse
import pathlib
import re
import sys

import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))
from node_cases import NodeCases, RealModels  # noqa: E402
from roads import ONNX, RoadError, Runner, ScratchFolder  # noqa: E402

# Where we differ on purpose: node test → why.
ANY = "a size of 0 in a declared shape means any size to us: exporters write it so"
REASONS = {"test_reduce_log_sum_exp_empty_set_expanded": ANY, "test_reduce_l1_empty_set_expanded": ANY,
           "test_reduce_l2_empty_set_expanded": ANY, "test_reduce_sum_square_empty_set_expanded": ANY,
           "test_triu_zero": ANY, "test_tril_zero": ANY}


def Theirs(model):
    """name → (ONNX type code, dims or None), a dim that ONNX does not know as a number is -1."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    out = {}
    for v in [*graph.value_info, *graph.output]:
        t = v.type.tensor_type
        if v.type.HasField("tensor_type"):
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim] if t.HasField("shape") else None
            out[v.name] = (t.elem_type, dims)
    return out


def Disagreements(theirs, ours):
    """Messages, and how many dimensions only we know."""
    messages, more = [], 0
    for name, (code, dims) in theirs.items():
        if name not in ours:
            continue  # folded away
        got = ours[name]
        if code and got["type"] in ONNX and ONNX[got["type"]] != code or code and got["type"] is None:
            messages.append(f"'{name}' has type {got['type']}, ONNX says {onnx.TensorProto.DataType.Name(code)}")
        if dims is None:
            more += len(got["shape"] or [])
        elif got["shape"] is None or len(got["shape"]) != len(dims):
            messages.append(f"'{name}' has shape {got['shape']}, ONNX says {dims}")
        elif any(d not in (-1, g) for d, g in zip(dims, got["shape"])):
            messages.append(f"'{name}' has shape {got['shape']}, ONNX says {dims}")
        else:
            more += sum(d == -1 and g != -1 for d, g in zip(dims, got["shape"]))
    return messages, more


def WithoutShapes(model, symbolic):
    """A copy that declares no shape but those of its inputs, whose dims are symbols if wanted."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.value_info[:]
    for v in out.graph.output:
        v.type.tensor_type.ClearField("shape")
    for v in out.graph.input if symbolic else []:
        for i, d in enumerate(v.type.tensor_type.shape.dim):
            d.dim_param = f"{v.name}_{i}"
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    only = re.compile(arguments.only)
    failures, compared, more, unknown = [], 0, 0, 0
    with ScratchFolder() as folder, Runner(arguments.build, folder) as runner:
        path = pathlib.Path(folder) / "case.onnx"

        def Check(name, model):
            nonlocal compared, more, unknown
            try:
                theirs = Theirs(model)
            except onnx.shape_inference.InferenceError:
                return
            path.write_bytes(model.SerializeToString())
            try:
                ours = runner.Infer(path)["values"]
            except RoadError as e:
                if str(e).startswith("UNIMPLEMENTED"):
                    unknown += 1
                else:
                    failures.append(f"{name}: {e}")
                return
            messages, n = Disagreements(theirs, ours)
            failures.extend(f"{name}: {m}" for m in messages)
            compared, more = compared + len(theirs.keys() & ours.keys()), more + n

        for name, path_of_model, _ in RealModels():
            if only.search(name):
                model = onnx.load(path_of_model)
                Check(name, model)
                Check(f"{name} without declared shapes", WithoutShapes(model, symbolic=False))
        for name, model, _ in NodeCases():
            if only.search(name) and name not in REASONS:
                Check(name, WithoutShapes(model, symbolic=False))
                Check(f"{name} with symbolic inputs", WithoutShapes(model, symbolic=True))
    print(*failures, sep="\n")
    print(f"{compared} values compared, {more} dimensions that only we know, {len(failures)} disagreements, "
          f"{unknown} models with operators that we do not have")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
