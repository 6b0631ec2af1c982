#!/usr/bin/env python3
"""Writes ONNX's backend test cases of the domain ai.onnx, as the installed onnx package defines them.

  generate.py OUT    fills OUT/<case>/{model.onnx,test_data_set_0/{input,output}_N.pb} and OUT/index.txt,
                     and OUT/suites/<suite>/<case> where there is an archive beside $HALFTONE_MODELS

A line of index.txt is `name rtol atol kinds`; kinds lists what a case needs that is no dense tensor
of numbers (sequence, optional, map, string, training), or is `-`. Does nothing when OUT is up to date.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

# Bounds the threads of numpy's linear algebra: other tests run at the same time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnx
from onnx import numpy_helper

TRAINING = "ai.onnx.preview.training"


def stamp():
    script = pathlib.Path(__file__).read_bytes()
    return f"onnx {onnx.__version__} numpy {np.__version__} {hashlib.sha256(script).hexdigest()}"


def graphs_of(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def type_kinds(proto):
    which = proto.WhichOneof("value")
    if which == "tensor_type":
        return {"string"} if proto.tensor_type.elem_type == onnx.TensorProto.STRING else set()
    if which == "sequence_type":
        return {"sequence"} | type_kinds(proto.sequence_type.elem_type)
    if which == "optional_type":
        return {"optional"} | type_kinds(proto.optional_type.elem_type)
    return {"map"} if which == "map_type" else set()


def node_kinds(node):
    found = {"optional"} if node.op_type.startswith("Optional") else set()
    if any(a.name in ("value_string", "value_strings") for a in node.attribute):
        found.add("string")
    return found


def kinds_of(model):
    found = {"training"} if any(i.domain == TRAINING for i in model.opset_import) else set()
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # the kinds of inputs and outputs are known all the same
        pass
    for graph in graphs_of(model.graph):
        for value in [*graph.input, *graph.output, *graph.value_info]:
            found |= type_kinds(value.type)
        for tensor in graph.initializer:
            found |= {"string"} if tensor.data_type == onnx.TensorProto.STRING else set()
        for node in graph.node:
            found |= node_kinds(node)
    return found


def as_proto(value, name):
    if isinstance(value, onnx.TensorProto):
        value.name = name
        return value
    return numpy_helper.from_array(np.asarray(value), name)


def write_case(folder, case):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir()
        for kind, values in (("input", inputs), ("output", outputs)):
            names = getattr(case.model.graph, kind)
            for i, value in enumerate(values):
                (data / f"{kind}_{i}.pb").write_bytes(
                    as_proto(value, names[i].name).SerializeToString())


def collect():
    from onnx.backend.test.case import node
    warnings.simplefilter("ignore")
    np.random.seed(0)
    np.seterr(all="ignore")
    return sorted(node.collect_testcases(None), key=lambda case: case.name)


def generate(out):
    mark = out / "stamp"
    if mark.exists() and mark.read_text() == stamp():
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    lines = []
    for case in collect():
        if any(i.domain == "ai.onnx.ml" for i in case.model.opset_import):
            continue
        kinds = kinds_of(case.model)
        lines.append(f"{case.name} {case.rtol:g} {case.atol:g} {','.join(sorted(kinds)) or '-'}\n")
        if not kinds:
            write_case(out / case.name, case)
    (out / "index.txt").write_text("".join(lines))
    mark.write_text(stamp())
    print(f"{len(lines)} cases")


def unpack_suites(out):
    archive = pathlib.Path(os.environ.get("HALFTONE_MODELS", "none")).parent / "onnx-node-tests.tar.zst"
    if not archive.exists():
        print(f"SKIPPED: no suites, {archive} does not exist")
        return
    mark, now = out / "stamp", f"{archive.stat().st_size} {archive.stat().st_mtime_ns}"
    if mark.exists() and mark.read_text() == now:
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", out, "--strip-components=1"], check=True)
    mark.write_text(now)


def main():
    out = pathlib.Path(sys.argv[1])
    generate(out)
    unpack_suites(out / "suites")


if __name__ == "__main__":
    main()
