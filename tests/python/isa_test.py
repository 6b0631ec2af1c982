#!/usr/bin/env python3
"""Every precision answers alike on older CPUs: oneDNN is told to be one (ONEDNN_MAX_CPU_ISA).

Variants are built and run in processes that see AVX2, AVX-512 without VNNI, AVX-512 with VNNI, and all that this CPU
has; a variant built with VNNI also runs without. Then a layer of the largest weights on the largest inputs, which
kernels without VNNI would saturate.

usage: isa_test.py --build FOLDER
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from halftone_server import ROOT, Skip

sys.path.insert(0, str(ROOT / "tests" / "differential"))
from roads import Runner, ScratchFolder  # noqa: E402

# None: no limit. The second is AVX-512 as it was before VNNI.
ISAS = ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", None]
OLD = ISAS[:2]
# (spec, least SQNR against fp32 in dB, most that an ISA may lose against another in dB). Where 7 bits do for 8 the
# noise of the weights doubles (6 dB, and the steps of their ranges); f16 weights differ by where sums are rounded, bf16
# also by the activations, which only some CPUs round.
SPECS = [("fp16", 50, 0.5), ("bf16", 35, 4), ("int8/per-channel/weight-only", 20, 0.5),
         ("int8/per-channel/static", 20, 8), ("int8/per-channel/dynamic", 20, 8)]
# Of the best class, with fp32 and with the newest CPU. Of 200 images 190: the weakest model changes its mind on 4 % of
# them with 7 bits, and the standard error of that is 1.4 %.
LEAST_AGREEMENT = 0.95
MOST_ACCURACY_LOST = 0.025
# Labelled models of different make, and ones that others quantized: (model, data set).
MODELS = [("digits_resnet", "digits32"), ("mnist_lenet", "mnist"), ("mnist_vit", "mnist"), ("cifar_dwnet", "cifar10"),
          ("mlperf_ic_resnet8", "cifar10")]
QDQ = [("mnist_lenet_qat", "mnist"), ("cifar_resnet20_qat", "cifar10"), ("mlperf_icl_int8_qdq", "cifar10")]
ROWS, CALIBRATION = 200, 64


def Name(isa):
    return isa or "this CPU"


def Environment(isa):
    limit = {} if isa is None else {"ONEDNN_MAX_CPU_ISA": isa}
    return {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], **limit}


def Sqnr(want, got):
    noise = float(np.sum((want - got) ** 2, dtype=np.float64))
    return 999.0 if noise == 0 else 10 * np.log10(float(np.sum(want ** 2, dtype=np.float64)) / noise)


def Agreement(a, b):
    return float(np.mean(a.argmax(-1) == b.argmax(-1)))


def Images(models, model, data, part, count):
    """Inputs as the model's meta.json prepares them."""
    how = json.loads((models / model / "meta.json").read_text())["preprocess"]
    images = np.load(models / "_data" / data / f"{part}_images.npy")[:count].astype(np.float32)
    images = images[..., None] if images.ndim == 3 else images
    x = (images * np.float32(how["scale"]) - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(x if "kept NHWC" in how["layout"] else x.transpose(0, 3, 1, 2), dtype=np.float32)


class Machine:
    """The programs of this build on a CPU that ends at `isa`."""

    def __init__(self, build, folder, isa):
        self.build, self.folder, self.isa = build, pathlib.Path(folder) / Name(isa).replace(" ", "_"), isa
        self.folder.mkdir()
        self.runner = Runner(build, self.folder, Environment(isa))

    def Convert(self, model, spec, calibration):
        out = self.folder / f"{spec.replace('/', '_')}.onnx"
        command = [self.build / "client" / "halftone", "convert", model, "--to", spec, "-o", out,
                   "--calibration", calibration, "--threads", "1"]
        subprocess.run(command, check=True, env=Environment(self.isa), capture_output=True, timeout=300)
        return out

    def Run(self, model, x):
        with self.runner:
            outputs = self.runner.Call("plan", model, [[x[i:i + 50]] for i in range(0, len(x), 50)])
        return np.concatenate([o[0] for o in outputs])

    def Describe(self, model, shape):
        with self.runner:
            return self.runner.Command({"road": "describe", "model": str(model), "shapes": [list(shape)]})["steps"]


def Accuracy(logits, labels):
    return float(np.mean(logits.argmax(-1) == labels))


def CheckModel(machines, model, x, labels, calibration, problems):
    """Builds and runs every spec on every machine, and what VNNI built on those without."""
    fp32 = machines[None].Run(model, x)
    for spec, least, noise in SPECS:
        answers, variants = {}, {}
        for isa, machine in machines.items():
            variants[isa] = machine.Convert(model, spec, calibration)
            answers[Name(isa)] = machine.Run(variants[isa], x)
        # One id, so the same bytes: on CPUs of one class, and where the class is no part of the id on all.
        one_id = ["AVX512_CORE_VNNI", None] if spec.endswith(("/static", "/dynamic")) else ISAS
        if len({variants[isa].read_bytes() for isa in one_id}) != 1:
            problems.append(f"{model.parent.name} {spec}: CPUs that share an id built different variants")
        for isa in OLD:
            answers[f"built with VNNI, run on {isa}"] = machines[isa].Run(variants["AVX512_CORE_VNNI"], x)
        sqnr = {name: Sqnr(fp32, got) for name, got in answers.items()}
        best = answers[Name(None)]
        print(f"{model.parent.name:20} {spec:26}", "  ".join(f"{n}: {s:.1f} dB" for n, s in sqnr.items()), flush=True)
        for name, got in answers.items():
            agreement = min(Agreement(fp32, got), Agreement(best, got))
            lost = Accuracy(fp32, labels) - Accuracy(got, labels)
            if (sqnr[name] < least or sqnr[name] < max(sqnr.values()) - noise or agreement < LEAST_AGREEMENT or
                    lost > MOST_ACCURACY_LOST):
                problems.append(f"{model.parent.name} {spec} {name}: {sqnr[name]:.1f} dB, agreement {agreement}, "
                                f"accuracy lost {lost}")


def CheckQdq(machines, model, x, problems):
    """What others quantized keeps its 8-bit weights everywhere: answers differ by roundings only."""
    answers = {isa: machine.Run(model, x) for isa, machine in machines.items()}
    for isa, got in answers.items():
        sqnr, agreement = Sqnr(answers[None], got), Agreement(answers[None], got)
        print(f"{model.parent.name:20} as it is, {Name(isa)}: {sqnr:.1f} dB, agreement {agreement:.3f}", flush=True)
        if sqnr < 20 or agreement < LEAST_AGREEMENT:
            problems.append(f"{model.parent.name} on {Name(isa)}: {sqnr} dB, {agreement}")


def WorstCase(folder, op):
    """x f32 → y: u8 255 times i8 127 (and -127 in every other channel), 512 products to the sum; exact in f32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    channels, depth = 32, 512
    w = np.full((channels, depth), 127, np.int8)
    w[1::2] = -127
    shape = (channels, depth, 1, 1) if op == "Conv" else (depth, channels)
    w = w.reshape(shape) if op == "Conv" else np.ascontiguousarray(w.T)
    constants = [numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.uint8(0), "z"),
                 numpy_helper.from_array(np.int8(0), "zw"), numpy_helper.from_array(w, "w")]
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dx"]),
             helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["dw"]),
             helper.make_node(op, ["dx", "dw"], ["y"], name="worst")]
    x_shape = [4, depth, 2, 2] if op == "Conv" else [4, depth]
    y_shape = [4, channels, 2, 2] if op == "Conv" else [4, channels]
    graph = helper.make_graph(nodes, "worst", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)], constants)
    path = pathlib.Path(folder) / f"worst_{op}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    want = np.empty(y_shape, np.float32)
    want[:, 0::2], want[:, 1::2] = 255 * 127 * depth, -255 * 127 * depth
    return path, np.full(x_shape, 255, np.float32), want


def CheckWorstCase(machines, folder, problems):
    for op in ("Conv", "MatMul"):
        path, x, want = WorstCase(folder, op)
        for isa, machine in machines.items():
            got = machine.Run(path, x)
            step = next(s for s in machine.Describe(path, x.shape) if s["node"] == "worst")
            print(f"worst {op:8} {Name(isa)}: {step['precision']} ({step['implementation']})", flush=True)
            if not np.array_equal(got, want):
                problems.append(f"worst {op} on {Name(isa)}: got {got.ravel()[:4]}, want {want.ravel()[:4]}")
            if isa in OLD and step["precision"] in ("u8s8", "s8s8"):
                problems.append(f"worst {op} on {Name(isa)} ran on {step['precision']}")


def Limits(build):
    """What the programs make of each ISA: {"isa": name, "class": part of a variant's identity}."""
    answers = {}
    for isa in ISAS:
        run = subprocess.run([build / "tests" / "model_runner"], input='{"road": "cpu"}\n', env=Environment(isa),
                             capture_output=True, text=True, check=True)
        answers[isa] = json.loads(run.stdout)
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build.resolve()
    limits = Limits(build)
    print(limits, flush=True)
    if not limits[None]["class"].startswith("avx512-vnni"):
        Skip("this CPU has no AVX-512 with VNNI to compare with")
    classes = [limits[isa]["class"] for isa in ISAS]
    assert classes == ["avx2", "avx512", "avx512-vnni", "avx512-vnni"], classes
    models = pathlib.Path(os.environ.get("HALFTONE_MODELS", ROOT.parent / "shared" / "models"))
    problems, missing = [], []
    with ScratchFolder() as folder:
        machines = {isa: Machine(build, folder, isa) for isa in ISAS}
        CheckWorstCase(machines, folder, problems)
        for name, data in MODELS + QDQ:
            if not (models / name / "model.onnx").exists():
                missing.append(name)
                continue
            x = Images(models, name, data, "test", ROWS)
            if (name, data) in QDQ:
                CheckQdq(machines, models / name / "model.onnx", x, problems)
                continue
            calibration = pathlib.Path(folder) / "calibration.npy"
            np.save(calibration, Images(models, name, data, "calib", CALIBRATION))
            labels = np.load(models / "_data" / data / "test_labels.npy")[:ROWS]
            CheckModel(machines, models / name / "model.onnx", x, labels, calibration, problems)
    if problems:
        sys.exit("ISAs disagree:\n" + "\n".join(problems))
    if missing:
        Skip(f"the worst case is right everywhere, but without models {', '.join(missing)} (set HALFTONE_MODELS)")
    print("all ISAs agree")


if __name__ == "__main__":
    main()
