#!/usr/bin/env python3
"""ONNX Runtime behind the line protocol of halftone_bench (bench/README.md).

    python3 bench/ort_worker.py model.onnx --spec static --threads 2 --cache DIR \\
        --inputs b1=1x3x224x224:x.bin

Specs: fp32; static (QDQ, u8 activations, s8 per-channel weights, MinMax over the first inputs);
dynamic (the same for MatMul and Gemm, activations quantized at run time; ONNX Runtime has no
dynamic Conv for s8 weights). Quantized files are kept in --cache and made again when the model,
the recipe or ONNX Runtime changes.
"""
import argparse
import hashlib
import json
import os
import pathlib
import resource
import sys
import threading
import time

import numpy as np

import ort_util

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64,
               "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8,
               "tensor(int8)": np.int8, "tensor(bool)": np.bool_, "tensor(float16)": np.float16}


def HasVnni():
    with open("/proc/cpuinfo", encoding="ascii") as cpuinfo:
        flags = next((line.split() for line in cpuinfo if line.startswith("flags")), [])
    return "avx512_vnni" in flags or "avx_vnni" in flags


def ReadInputs(session, texts):
    """{"b1": {input name: array}} from NAME=SHAPE:PATH[,SHAPE:PATH…]."""
    requests = {}
    for text in texts:
        name, files = text.split("=", 1)
        request = {}
        for info, file in zip(session.get_inputs(), files.split(","), strict=True):
            shape, path = file.split(":", 1)
            array = np.fromfile(path, NUMPY_TYPES[info.type])
            request[info.name] = array.reshape([int(d) for d in shape.split("x") if d])
        requests[name] = request
    return requests


class OneSample:
    """A CalibrationDataReader with a single sample."""

    def __init__(self, request):
        self.left = [request]

    def get_next(self):
        return self.left.pop() if self.left else None

    def set_range(self, start_index, end_index):
        pass


def Quantize(spec, source, target, request):
    q = ort_util.ImportQuantization()
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process
    # Without VNNI u8*s8 pair sums saturate in 16 bits; ONNX Runtime's advice is 7-bit weights.
    common = {"per_channel": True, "reduce_range": not HasVnni(), "weight_type": q.QuantType.QInt8}
    prepared = target.with_suffix(".prepared.onnx")
    model = onnx.load(source)
    if next(o.version for o in model.opset_import if not o.domain) < 13:  # no per-channel QDQ
        model = onnx.version_converter.convert_version(model, 17)
        for index, node in enumerate(model.graph.node):  # the converter repeats names
            node.name = f"{node.op_type}_{index}"
    onnx.save(model, prepared)
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    if spec == "static":
        def Static(**extra_options):
            q.quantize_static(str(prepared), str(target), OneSample(request),
                              quant_format=q.QuantFormat.QDQ, activation_type=q.QuantType.QUInt8,
                              calibrate_method=q.CalibrationMethod.MinMax,
                              extra_options=extra_options, **common)
        try:
            Static()
        except ValueError as error:
            # 1.21 compares an array where a bias is tiny; without that step it gets through.
            print(f"{error}; once more without adjusting weights for biases", file=sys.stderr)
            Static(QDQDisableWeightAdjustForInt32Bias=True)
    else:
        q.quantize_dynamic(str(prepared), str(target), op_types_to_quantize=["MatMul", "Gemm"],
                           **common)
    prepared.unlink()


def Quantized(spec, source, cache, inputs):
    """Path of the quantized model."""
    recipe = hashlib.sha256()
    for part in (source.read_bytes(), pathlib.Path(__file__).read_bytes(), str(HasVnni()).encode(),
                 ort_util.ImportOnnxRuntime().__version__.encode()):
        recipe.update(hashlib.sha256(part).digest())
    cache.mkdir(parents=True, exist_ok=True)
    stem = source.parent.name if source.stem == "model" else source.stem
    target = cache / f"{stem}.ort-{spec}-{recipe.hexdigest()[:12]}.onnx"
    if not target.exists():
        for old in cache.glob(f"{stem}.ort-{spec}-*"):
            old.unlink()
        unfinished = target.with_suffix(".unfinished.onnx")
        print(f"quantizing {stem} ({spec}) with ONNX Runtime", file=sys.stderr)
        # The float session only tells names and types of the inputs.
        requests = ReadInputs(ort_util.CreateSession(str(source)), inputs)
        Quantize(spec, source, unfinished, requests[min(requests)])
        unfinished.rename(target)
    return target


def ResidentBytes():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def Measure(session, request, runs):
    seconds = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        session.run(None, request)
        seconds.append((time.perf_counter_ns() - start) * 1e-9)
    return seconds


def MeasureWorkers(session, request, runs, workers):
    """One session, as many threads that run it at once (they run without the interpreter's lock)."""
    results = [None] * workers

    def Work(index):
        results[index] = Measure(session, request, runs)

    threads = [threading.Thread(target=Work, args=(i,)) for i in range(1, workers)]
    start = time.perf_counter_ns()
    for thread in threads:
        thread.start()
    Work(0)
    for thread in threads:
        thread.join()
    return {"seconds": [s for one in results for s in one],
            "wall_seconds": (time.perf_counter_ns() - start) * 1e-9}


def Execute(session, requests, line, workers):
    command, name, argument = line.split()
    if command == "run":
        return {**MeasureWorkers(session, requests[name], int(argument), workers),
                "resident_bytes": ResidentBytes()}
    if command == "output":
        output = session.run(None, requests[name])[0]
        output.astype(np.float32).tofile(argument)
        return {"shape": list(output.shape)}
    raise ValueError(f"command {line!r}, want 'run INPUTS N' or 'output INPUTS PATH'")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--spec", choices=["fp32", "static", "dynamic"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="threads that run it at once")
    parser.add_argument("--inputs", action="append", required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--prepare", action="store_true", help="only fill the cache")
    args = parser.parse_args()

    path = args.model
    if args.spec != "fp32":
        path = Quantized(args.spec, path, args.cache, args.inputs)
    if args.prepare:
        return
    start = time.perf_counter()
    session = ort_util.CreateSession(str(path), args.threads)
    load_seconds = time.perf_counter() - start
    requests = ReadInputs(session, args.inputs)
    answers = os.fdopen(os.dup(1), "w")

    def Answer(values):
        print(json.dumps(values), file=answers, flush=True)

    Answer({"engine": f"onnxruntime {ort_util.ImportOnnxRuntime().__version__}",
            "model": str(path), "spec": args.spec, "threads": args.threads, "workers": args.workers,
            "load_seconds": load_seconds, "resident_bytes": ResidentBytes()})
    for line in sys.stdin:
        try:
            Answer(Execute(session, requests, line, args.workers))
        except Exception as error:  # pylint: disable=broad-except  # the harness shows it
            Answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
