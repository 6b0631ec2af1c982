#!/usr/bin/env python3
"""What every precision costs the hostile model: imagenet_mobilenetv1_025 on real JPEG images.

Rounding its weights to bf16 alone costs 2.5 % of the answers; static int8 loses many more, and then
the report has to say so and to name layers. Over gRPC, as a client would do it.

usage: imagenet_accuracy_test.py --build FOLDER
"""
import argparse
import json
import os
import pathlib
import sys

import numpy as np
from PIL import Image

from halftone_server import ROOT, Client, Server, Skip
from soak_test import Calibrate

NAME = "imagenet_mobilenetv1_025"
# Least top-1 agreement with fp32.
AGREEMENT = {"fp16": 0.995, "bf16": 0.93}
STATIC = "int8/per-channel/static"


def Load(folder, preprocess):
    """[(class, input of one image)] in the order of file names; the name is the class."""
    rows = []
    for path in sorted(folder.glob("*.jpg")):
        x = np.asarray(Image.open(path).convert("RGB"), np.float32) * np.float32(preprocess["scale"])
        x = (x - np.float32(preprocess["mean"])) / np.float32(preprocess["std"])
        rows.append((int(path.stem), np.ascontiguousarray(x.transpose(2, 0, 1)[None])))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build
    models = pathlib.Path(os.environ.get("HALFTONE_MODELS", ROOT / "../shared/models"))
    if not (models / NAME).is_dir():
        Skip(f"no {models / NAME}; set HALFTONE_MODELS")
    preprocess = json.loads((models / NAME / "meta.json").read_text())["preprocess"]
    calibration = Load(models / "_data/imagenet_sample/calib", preprocess)
    test = Load(models / "_data/imagenet_sample/test", preprocess)
    labels = np.array([label for label, _ in test])
    problems = []
    with Server(build) as server:
        client = Client(server.target)
        client.Upload(NAME, (models / NAME / "model.onnx").read_bytes())
        Calibrate(client, NAME, [x for _, x in calibration])

        def Answers(spec):
            return np.array([client.Infer(NAME, spec, x)[0].argmax() for _, x in test])

        fp32 = Answers("fp32")
        print(f"fp32: accuracy {np.mean(fp32 == labels):.3f} on {len(test)} images", flush=True)
        for spec, least in AGREEMENT.items():
            client.Quantize(NAME, spec)
            answers = Answers(spec)
            agreement = float(np.mean(answers == fp32))
            print(f"{spec}: accuracy {np.mean(answers == labels):.3f}, agreement {agreement:.3f}", flush=True)
            if agreement < least:
                problems.append(f"{spec}: agreement {agreement}, want {least}")
        report = client.Quantize(NAME, STATIC).report
        answers = Answers(STATIC)
        print(f"{STATIC}: accuracy {np.mean(answers == labels):.3f}, agreement {np.mean(answers == fp32):.3f}\n"
              + "\n".join(report.warnings), flush=True)
        loss = float(np.mean(fp32 == labels) - np.mean(answers == labels))
        if loss > 0.01 and not any("worst layers: " in w for w in report.warnings):
            problems.append(f"{STATIC} loses {loss:.3f} and its report does not say so")
    if problems:
        sys.exit("; ".join(problems))


if __name__ == "__main__":
    main()
