#!/usr/bin/env python3
"""Quantization-aware training and back: export an int8 variant to train, train it, serve it again.

usage: finetune.py --build FOLDER

A small network learns from the big one of examples/digits what its 256 calibration images are (they have no labels).
Calibrated on four images only, its int8 variant loses more than it has to. `halftone export --for-training` gives it as
a graph of float weights and scales behind fake quantization; NumPy trains both until the int8 answers are those of fp32
again; the result is uploaded like any model and runs on int8 kernels with the trained scales. Every number is measured
in this run, on images that nobody trained on.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from fake_quant import Graph

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from demo import Client, Failure, prepare, running_server, sqnr_db  # noqa: E402

SPEC = "int8/per-tensor/static"
CALIBRATION_IMAGES = 4
HIDDEN = 48


def student():
    """x f32[N,64] -> logits f32[N,10], untrained."""
    rng = numpy.random.default_rng(5)
    shapes = {"w1": (64, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, HIDDEN), "b2": (HIDDEN,), "w3": (HIDDEN, 10),
              "b3": (10,)}
    constants = [numpy_helper.from_array((rng.standard_normal(s) * s[0] ** -0.5 * (len(s) - 1)).astype("float32"), n)
                 for n, s in shapes.items()]
    nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="fc1"),
             helper.make_node("Relu", ["h1"], ["r1"], name="relu1"),
             helper.make_node("Gemm", ["r1", "w2", "b2"], ["h2"], name="fc2"),
             helper.make_node("Relu", ["h2"], ["r2"], name="relu2"),
             helper.make_node("Gemm", ["r2", "w3", "b3"], ["logits"], name="fc3")]
    info = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])  # noqa: E731
    graph = helper.make_graph(nodes, "student", [info("x", 64)], [info("logits", 10)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def shrink(path):
    """The images' own 8x8 pixels, from the 32x32 of the files."""
    images = numpy.load(path)
    return images.reshape(len(images), 8, 4, 8, 4).mean((2, 4), dtype=numpy.float32).reshape(len(images), 64)


class Work:
    """The client, a folder, and arrays that come and go as files."""

    def __init__(self, client, folder):
        self.client, self.folder = client, folder

    def answers(self, model, variant, x):
        numpy.save(self.folder / "x.npy", x)
        out = self.folder / "y.npy"
        self.client("infer", model, "--variant", variant, "--input", self.folder / "x.npy", "--each-row", "--output", out)
        return numpy.load(out)

    def upload(self, name, model):
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        self.client("upload", name, path)


def exported_to_train(work, calibration):
    """The int8 variant of "student" as a graph to train."""
    numpy.save(work.folder / "calib.npy", calibration)
    work.client("calibrate", "student", work.folder / "calib.npy")
    work.client("quantize", "student", SPEC)
    work.client("export", "student", SPEC, "--for-training", "-o", work.folder / "to_train")
    return Graph(onnx.load(work.folder / "to_train" / "model.onnx"))


def run(client, folder):
    work = Work(client, folder)
    files = prepare.prepare(folder)
    seen, unseen = shrink(files["calib"]), shrink(files["test"])
    labels = numpy.load(HERE.parent / "digits" / "test_labels.npy")

    client("upload", "digits", HERE.parent / "digits" / "model.onnx")
    teacher = work.answers("digits", "fp32", numpy.load(files["calib"]))
    fp32 = Graph(student())
    errors = fp32.fit(seen, teacher, steps=400)
    print(f"fp32 student: error against the teacher {errors[0]:.3f} -> {errors[-1]:.3f}")
    work.upload("student", fp32.model())

    graph = exported_to_train(work, seen[:CALIBRATION_IMAGES])
    before = work.answers("student", SPEC, unseen)
    same = sqnr_db(before, graph(unseen))
    errors = graph.fit(seen, fp32(seen), steps=300, rate=0.001)
    print(f"int8 student: error against fp32 {errors[0]:.4f} -> {errors[-1]:.4f}")
    work.upload("trained", graph.model())
    after = work.answers("trained", "fp32", unseen)  # "fp32": the model as it was uploaded

    reference = work.answers("student", "fp32", unseen)
    print(f"\n{'':26}{'accuracy':>9} {'same class':>11} {'SQNR':>9}   (400 images that nobody trained on)")
    rows = [("fp32", reference), (SPEC, before), ("after training", after)]
    for name, logits in rows:
        agreement = numpy.mean(logits.argmax(1) == reference.argmax(1))
        print(f"{name:26}{numpy.mean(logits.argmax(1) == labels):9.4f} {agreement:11.4f} "
              f"{sqnr_db(reference, logits):6.1f} dB")
    print(f"\nNumPy's fake quantization and the served integers differ by noise of {same:.1f} dB before and "
          f"{sqnr_db(after, graph(unseen)):.1f} dB after training")
    if sqnr_db(reference, after) < sqnr_db(reference, before) + 3:
        raise Failure("training gained less than 3 dB")
    if min(same, sqnr_db(after, graph(unseen))) < 30:
        raise Failure("what is served is not what was trained")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, help="folder with server/ and client/")
    build = parser.parse_args().build
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with running_server(build / "server" / "halftone-server", folder) as (port, _):
            run(Client(build / "client" / "halftone", f"127.0.0.1:{port}"), folder)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"finetune: {failure}")
