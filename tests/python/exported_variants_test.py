#!/usr/bin/env python3
"""ONNX's checker and ONNX Runtime accept every exported variant, and ONNX Runtime agrees with us.

usage: exported_variants_test.py --build FOLDER
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import types

import numpy as np

from halftone_server import ROOT, Client, Server
from soak_test import Calibrate

SPECS = ["fp32", "fp16", "bf16", "int8/per-tensor/static", "int8/per-channel/static",
         "int8/per-channel/dynamic", "int8/per-channel/dynamic-per-token", "int8/per-channel/static/act=int8",
         "int8/per-channel/weight-only", "int8/per-tensor/weight-only"]
SAMPLES = 100
# Integer kernels round elsewhere, and native bf16 rounds activations too: (top-1 agreement, SQNR in dB).
ROUNDED = (0.97, 28)
SIGNED = (0.97, 22)  # behind a Relu, half of the codes is not used: 6 dB
EXACT = (0.99, 80)
# Labelled models with one f32 input, beside the one that ships: folder, data set, images per channel axis.
EXTRA = {"mnist_lenet": "mnist", "mnist_vit": "mnist", "cifar_resnet20": "cifar10", "cifar_dwnet": "cifar10",
         "mlperf_ic_resnet8": "cifar10"}


def Preprocess(images, preprocess):
    x = images.astype(np.float32) * np.float32(preprocess["scale"])
    if x.ndim == 4:
        x = (x - np.float32(preprocess["mean"])) / np.float32(preprocess["std"])
        if "NCHW" in preprocess["layout"].split("->")[-1]:
            x = x.transpose(0, 3, 1, 2)
    else:
        x = (x[:, None] - np.float32(preprocess["mean"][0])) / np.float32(preprocess["std"][0])
    return [np.ascontiguousarray(row[None]) for row in x]


def Cases():
    """Yields (name, ONNX bytes, calibration inputs, test inputs)."""
    digits = ROOT / "examples" / "digits"
    unit = {"scale": 1 / 255, "mean": [0.0], "std": [1.0], "layout": "-> N1HW"}
    yield ("digits", (digits / "model.onnx").read_bytes(),
           Preprocess(np.load(digits / "calib_images.npy"), unit),
           Preprocess(np.load(digits / "test_images.npy")[:SAMPLES], unit))
    models = pathlib.Path(os.environ.get("HALFTONE_MODELS", ROOT / "../shared/models"))
    if not models.is_dir():
        print(f"SKIPPED: {', '.join(EXTRA)} (no {models}; set HALFTONE_MODELS)")
        return
    for name, data in EXTRA.items():
        meta = json.loads((models / name / "meta.json").read_text())
        folder = models / "_data" / data
        yield (name, (models / name / "model.onnx").read_bytes(),
               Preprocess(np.load(folder / "calib_images.npy")[:128], meta["preprocess"]),
               Preprocess(np.load(folder / "test_images.npy")[:SAMPLES], meta["preprocess"]))


def Export(client, model, spec, folder, for_training=False):
    """Writes the variant's files and returns the path of its model."""
    folder.mkdir(exist_ok=True)
    selector = client.types.VariantSelector(spec_text=spec)
    request = client.quantization_pb.ExportVariantRequest(model=model, variant=selector, for_training=for_training)
    files, names = {}, []
    for part in client.quantization.ExportVariant(request, timeout=60):
        if part.HasField("header"):
            names = [f.name for f in part.header.files]
        elif part.HasField("chunk"):
            files.setdefault(part.chunk.file_index, bytearray()).extend(part.chunk.data)
    for index, name in enumerate(names):
        (folder / name).write_bytes(files.get(index, b""))
    return folder / names[0]


def Sqnr(want, got):
    noise = float(np.sum((want - got) ** 2))
    return 999.0 if noise == 0 else 10 * np.log10(float(np.sum(want ** 2)) / noise)


def Compare(client, name, spec, inputs, onnx, ort):
    with tempfile.TemporaryDirectory() as folder:
        path = Export(client, name, spec, pathlib.Path(folder))
        onnx.checker.check_model(str(path), full_check=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, {session.get_inputs()[0].name: x})[0] for x in inputs])
    ours = np.concatenate([client.Infer(name, spec, x) for x in inputs])
    agreement = float(np.mean(ours.argmax(-1) == theirs.argmax(-1)))
    sqnr = Sqnr(theirs, ours)
    print(f"{name:20} {spec:30} agreement {agreement:.3f}  SQNR against ONNX Runtime {sqnr:6.1f} dB", flush=True)
    rounded = spec == "bf16" or spec.endswith(("/static", "/dynamic", "/dynamic-per-token"))
    min_agreement, min_sqnr = SIGNED if spec.endswith("/act=int8") else ROUNDED if rounded else EXACT
    return [] if agreement >= min_agreement and sqnr >= min_sqnr else [f"{name} {spec}: {agreement} {sqnr}"]


def OnnxAndRuntime():
    """The modules onnx and onnxruntime, the latter without its warnings."""
    # Debian's onnxruntime and onnx disagree about this optional module.
    sys.modules.setdefault("onnx.reference", types.ModuleType("onnx.reference"))
    import onnx
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    return onnx, onnxruntime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build
    onnx, ort = OnnxAndRuntime()
    problems = []
    with Server(build) as server:
        client = Client(server.target)
        for name, model, calibration, inputs in Cases():
            client.Upload(name, model)
            Calibrate(client, name, calibration)
            for spec in SPECS:
                if spec != "fp32":
                    client.Quantize(name, spec)
                problems += Compare(client, name, spec, inputs, onnx, ort)
    if problems:
        sys.exit("disagreement: " + "; ".join(problems))


if __name__ == "__main__":
    main()
