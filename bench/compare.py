#!/usr/bin/env python3
"""Compares Halftone's executor with ONNX Runtime: same models, inputs, threads, cores and run.

    ./dev bench [--quick] [--models resnet50,bert_base] [--threads 1,2] [--batch 1,8]

One process per engine and precision, measured in turns so that a noisy minute hits all of them.
Prints a table and writes JSON. bench/README.md says how to read them.
"""
import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np
import onnx

import models

HERE = pathlib.Path(__file__).resolve().parent
SETTLE_SECONDS = 0.02  # idle OpenMP and ONNX Runtime threads spin for a while after a run
ROUNDS = 5
# A fp32 engine further from ONNX Runtime's fp32 output than this share of its largest value is wrong.
FP32_TOLERANCE = 1e-3

OURS_FLOAT = ["fp32", "bf16", "fp16"]
OURS_STATIC, OURS_DYNAMIC = "int8/per-channel/static", "int8/per-channel/dynamic"


# --- models and inputs ---------------------------------------------------------------------------


def FindModel(name, folder):
    """(label, path): a generated architecture, a folder of $HALFTONE_MODELS, or an .onnx file."""
    if name in models.MODELS:
        return name, models.Ensure(name, folder)
    real = pathlib.Path(os.environ.get("HALFTONE_MODELS", "../shared/models")) / name / "model.onnx"
    if real.exists():
        return name, real
    if pathlib.Path(name).suffix == ".onnx" and pathlib.Path(name).exists():
        return pathlib.Path(name).stem, pathlib.Path(name)
    sys.exit(f"bench: no model {name!r}: want one of {', '.join(models.MODELS)}, a folder of "
             "$HALFTONE_MODELS, or the path of an .onnx file")


def MatMulShare(graph):
    """Share of the weights that MatMul and Gemm read, the rest being convolutions'."""
    sizes = {w.name: math.prod(w.dims) for w in graph.initializer}
    heavy = [(n.op_type, sum(sizes.get(i, 0) for i in n.input)) for n in graph.node
             if n.op_type in ("Conv", "MatMul", "Gemm")]
    total = sum(size for _, size in heavy)
    return sum(size for op, size in heavy if op != "Conv") / total if total else 0


def MakeInputs(path, graph, batch):
    """Arrays in graph order, or None when the model has no free batch dimension."""
    weights = {w.name for w in graph.initializer}
    arrays = []
    rng = np.random.default_rng(batch)
    for index, info in enumerate(i for i in graph.input if i.name not in weights):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        dims = [d.dim_value if d.HasField("dim_value") else None
                for d in info.type.tensor_type.shape.dim]
        if batch > 1 and (not dims or dims[0] is not None):
            return None
        recorded = path.parent / "inputs" / f"set0_in{index}.npy"
        if recorded.exists():
            array = np.load(recorded)
            if batch > 1:
                array = np.concatenate([array] * math.ceil(batch / len(array)))[:batch]
        else:
            shape = [d or (batch if axis == 0 else 1) for axis, d in enumerate(dims)]
            array = (rng.standard_normal(shape) if np.issubdtype(dtype, np.floating)
                     else rng.integers(0, 2, shape))
        arrays.append(np.asarray(array, dtype, order="C"))  # ascontiguousarray has no scalars
    return arrays


def WriteInputs(label, path, graph, batches, folder):
    """{batch: --inputs flag} for the batches that the model can run."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = {}
    for batch in batches:
        arrays = MakeInputs(path, graph, batch)
        if arrays is None:
            print(f"{label}: fixed shapes, batch {batch} is left out", file=sys.stderr)
            continue
        parts = []
        for index, array in enumerate(arrays):
            file = folder / f"{label}.b{batch}.in{index}.bin"
            array.tofile(file)
            parts.append(f"{'x'.join(map(str, array.shape))}:{file}")
        flags[batch] = f"b{batch}=" + ",".join(parts)
    return flags


# --- engines -------------------------------------------------------------------------------------


class Worker:
    """One engine in its own process, pinned to its cores; a line of JSON answers each command."""

    def __init__(self, key, command, cores, log):
        self.key, self.log = key, log
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(log, "w"),
            text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        self.facts = None

    def Read(self):
        line = self.process.stdout.readline()
        if not line:
            lines = pathlib.Path(self.log).read_text().strip().splitlines() or ["no message"]
            raise RuntimeError(f"exited with {self.process.wait()}: {lines[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def Ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.Read()

    def Close(self):
        self.process.stdin.close()
        self.process.wait()


def Engines(args, path, graph, inputs):
    """{key: command without --threads}. Dynamic int8 only where matmuls dominate."""
    files = [word for flag in inputs.values() for word in ("--inputs", flag)]
    dynamic = MatMulShare(graph) > 0.5
    specs = args.specs or [*OURS_FLOAT, OURS_STATIC, *([OURS_DYNAMIC] if dynamic else [])]
    program = pathlib.Path(args.build) / "bench" / "halftone_bench"
    if not program.exists():
        sys.exit(f"bench: {program} is not built")
    engines = {f"halftone {spec}": [program, path, "--serve", "--spec", spec, *files]
               for spec in specs}
    worker = [sys.executable, "-B", HERE / "ort_worker.py", path, "--cache",
              args.work / "models" / "ort", *files]
    for spec in ["fp32", "static", *(["dynamic"] if dynamic else [])]:
        engines[f"ort {spec}"] = [*worker, "--spec", spec]
    return engines


def Start(engines, threads, work, errors):
    """Starts every engine, one after the other; those that fail land in `errors`."""
    cores = sorted(os.sched_getaffinity(0))
    workers = []
    for key, command in engines.items():
        log = work / "log" / (key.replace("/", "-").replace(" ", "-") + ".txt")
        log.parent.mkdir(parents=True, exist_ok=True)
        if key.startswith("ort") and "fp32" not in key:
            # Quantizing happens in a process of its own: its memory is not the engine's.
            with open(log, "w", encoding="utf-8") as file:
                subprocess.run([*command, "--prepare"], check=False, stderr=file)
        worker = Worker(key, [*command, "--threads", str(threads)], cores[:threads], log)
        try:
            worker.facts = worker.Read()
            workers.append(worker)
        except RuntimeError as error:
            errors[key] = str(error)
            print(f"  {key}: {error}", file=sys.stderr)
    return workers


# --- measuring -----------------------------------------------------------------------------------


def RunWarm(worker, name, runs, single):
    """Latencies of `runs` runs; short ones come after one that only refills the caches."""
    extra = 1 if single < 0.05 else 0
    time.sleep(SETTLE_SECONDS)
    answer = worker.Ask(f"run {name} {runs + extra}")
    return answer["seconds"][extra:], answer


def MeasureCell(workers, batch, seconds, errors):
    """{key: {"rounds": [[seconds]], …}}: every worker in turn, ROUNDS times."""
    name, results, runs, single = f"b{batch}", {}, {}, {}
    for worker in workers:
        try:
            first = worker.Ask(f"run {name} 1")["seconds"][0]
            single[worker.key] = worker.Ask(f"run {name} 1")["seconds"][0]
        except RuntimeError as error:
            errors[worker.key] = str(error)
            print(f"  {worker.key}: {error}", file=sys.stderr)
            continue
        runs[worker.key] = max(1, round(seconds / ROUNDS / single[worker.key]))
        results[worker.key] = {"first_run_seconds": first, "rounds": [], **worker.facts}
    alive = [w for w in workers if w.key in results]
    # Slow models get fewer rounds, never fewer than two.
    slowest = max((single[w.key] for w in alive), default=0)
    rounds = max(2, min(ROUNDS, math.ceil(2 * seconds / slowest))) if slowest else 0
    for turn in range(rounds):
        for worker in alive[turn % len(alive):] + alive[:turn % len(alive)]:
            latencies, answer = RunWarm(worker, name, runs[worker.key], single[worker.key])
            results[worker.key]["rounds"].append(latencies)
            answer.pop("seconds")
            results[worker.key].update(answer)
    for result in results.values():
        Summarize(result, batch)
    return results


def Summarize(result, batch):
    flat = np.array([s for r in result["rounds"] for s in r])
    for key, q in (("p10", 10), ("p50", 50), ("p90", 90)):
        result[f"{key}_seconds"] = float(np.percentile(flat, q))
    result["min_seconds"] = float(flat.min())
    result["runs"] = len(flat)
    result["items_per_second"] = batch / result["p50_seconds"]
    result["round_medians_seconds"] = [float(np.median(r)) for r in result.pop("rounds")]


def CompareOutputs(workers, batch, work, errors):
    """{key: SQNR in dB against ONNX Runtime fp32}; wrong fp32 answers land in `errors`."""
    outputs = {}
    for worker in workers:
        file = work / "output.bin"
        try:
            worker.Ask(f"output b{batch} {file}")
            outputs[worker.key] = np.fromfile(file, np.float32).astype(np.float64)
        except RuntimeError as error:
            errors[worker.key] = str(error)
    expected = outputs.get("ort fp32")
    if expected is None:
        return {}
    sqnr = {}
    for key, output in outputs.items():
        if output.shape != expected.shape:
            errors[key] = f"{output.size} output elements, want {expected.size}"
            continue
        noise = float(np.sum((expected - output) ** 2))
        sqnr[key] = 10 * math.log10(max(float(np.sum(expected ** 2)), 1e-300) / max(noise, 1e-300))
        worst = float(np.max(np.abs(expected - output))) / max(float(np.max(np.abs(expected))), 1e-30)
        if key == "halftone fp32" and not worst <= FP32_TOLERANCE:
            errors[key] = f"wrong output: differs by {worst:.2e} x max|expected|"
            print(f"  {key}: {errors[key]}", file=sys.stderr)
    return sqnr


# --- results -------------------------------------------------------------------------------------


def Ratios(results, statistic):
    """Other's time / our time: above 1 we are faster. `statistic` is "p50_seconds" or such."""
    seconds = lambda key: results[key][statistic] if key in results else math.nan

    def Best(*keys):
        present = [(seconds(k), k) for k in keys if k in results]
        return min(present, default=(math.nan, None))

    ours, ours_key = Best(f"halftone {OURS_STATIC}", f"halftone {OURS_DYNAMIC}")
    peer, peer_key = Best("ort static", "ort dynamic")
    return {
        "fp32": seconds("ort fp32") / seconds("halftone fp32"),
        "int8": peer / ours, "int8_ours": ours_key, "int8_peer": peer_key,
        "int8_vs_own_fp32": seconds("halftone fp32") / ours,
        "bf16_vs_ort_fp32": seconds("ort fp32") / seconds("halftone bf16"),
        "fp16_vs_ort_fp32": seconds("ort fp32") / seconds("halftone fp16"),
    }


RATIO_COLUMNS = [("fp32", "fp32"), ("int8", "int8"), ("int8_vs_own_fp32", "int8/own fp32"),
                 ("bf16_vs_ort_fp32", "bf16/ort fp32"), ("fp16_vs_ort_fp32", "fp16/ort fp32")]


def PrintDetails(cell):
    print(f"\n{cell['model']}, {cell['threads']} thread{'s'[:cell['threads'] > 1]}, "
          f"batch {cell['batch']}")
    print(f"  {'engine':<34}{'p10':>9}{'p50':>9}{'p90':>9} ms{'items/s':>10}{'SQNR dB':>9}"
          f"{'RSS MB':>8}{'load s':>8}")
    for key, r in cell["engines"].items():
        sqnr = r.get("sqnr_db")
        print(f"  {key:<34}" +
              "".join(f"{1e3 * r[q + '_seconds']:9.2f}" for q in ("p10", "p50", "p90")) +
              f"   {r['items_per_second']:10.1f}"
              f"{'-' if sqnr is None else format(min(sqnr, 999), '.1f'):>9}"
              f"{r['resident_bytes'] / 1e6:8.0f}{r['load_seconds']:8.2f}")
    for key, error in cell["errors"].items():
        print(f"  {key:<34} FAILED: {error}")


def PrintRatios(cells):
    print("\nratios of medians: ONNX Runtime's time / Halftone's time, above 1 Halftone is faster")
    print(f"  {'model':<22}{'threads':>8}{'batch':>6}" +
          "".join(f"{title:>15}" for _, title in RATIO_COLUMNS) + "  int8: ours vs theirs")
    for cell in cells:
        r = cell["ratios"]
        print(f"  {cell['model']:<22}{cell['threads']:>8}{cell['batch']:>6}" +
              "".join(f"{r[k]:15.2f}" for k, _ in RATIO_COLUMNS) +
              f"  {str(r['int8_ours']).rsplit('/', 1)[-1]} vs {str(r['int8_peer']).split()[-1]}")
    print(f"  {'geometric mean':<36}" + "".join(
        f"{Geomean([c['ratios'][k] for c in cells]):15.2f}" for k, _ in RATIO_COLUMNS))


def Geomean(values):
    logs = [math.log(v) for v in values if v > 0 and math.isfinite(v)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def Machine():
    with open("/proc/cpuinfo", encoding="ascii") as cpuinfo:
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo
                     if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    if load > 0.7:
        print(f"bench: the load average is {load:.1f}: something else is running, and the spread "
              "will show it", file=sys.stderr)
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "load_average_before": load,
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def MeasureModel(args, name, cells):
    label, path = FindModel(name, args.work / "models")
    graph = onnx.load(path, load_external_data=False).graph
    inputs = WriteInputs(label, path, graph, args.batch, args.work / "inputs")
    engines = Engines(args, path, graph, inputs)
    for threads in args.threads:
        print(f"{label}, {threads} threads …", file=sys.stderr)
        start_errors = {}
        workers = Start(engines, threads, args.work, start_errors)
        for batch in inputs:
            errors = dict(start_errors)
            sqnr = CompareOutputs(workers, batch, args.work, errors)
            results = MeasureCell([w for w in workers if w.key not in errors], batch, args.seconds,
                                  errors)
            for key, value in sqnr.items():
                if key in results:
                    results[key]["sqnr_db"] = value
            cells.append({"model": label, "threads": threads, "batch": batch, "engines": results,
                          "errors": errors, "ratios": Ratios(results, "p50_seconds"),
                          "ratios_of_minima": Ratios(results, "min_seconds")})
            PrintDetails(cells[-1])
        for worker in workers:
            worker.Close()


def NullNans(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: NullNans(v) for k, v in value.items()}
    if isinstance(value, list):
        return [NullNans(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def Verdict(args, cells):
    """Exit code: 1 when one of our engines failed or a ratio is below --require."""
    bad = [f"{c['model']} t{c['threads']} b{c['batch']}: {k}: {e}" for c in cells
           for k, e in c["errors"].items() if k.startswith("halftone")]
    if args.require:
        bad += [f"{c['model']} t{c['threads']} b{c['batch']}: {k} ratio {c['ratios'][k]:.2f} is "
                f"below {args.require}" for c in cells for k in ("fp32", "int8")
                if not c["ratios"][k] >= args.require]
    for line in bad:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if bad else 0


def ParseArgs():
    words = lambda text: [w for w in text.split(",") if w]
    numbers = lambda text: [int(w) for w in words(text)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="CMake build folder")
    parser.add_argument("--models", type=words, default=["resnet50", "mobilenet_v2", "bert_base"],
                        metavar="A,B", help=f"of {', '.join(models.MODELS)}; folders of "
                        "$HALFTONE_MODELS; .onnx files")
    parser.add_argument("--threads", type=numbers, default=[2], metavar="1,2")
    parser.add_argument("--batch", type=numbers, default=[1, 8], metavar="1,8")
    parser.add_argument("--specs", type=words, metavar="A,B", help="our precisions; default all")
    parser.add_argument("--seconds", type=float, default=3.0, help="per engine, threads and batch")
    parser.add_argument("--quick", action="store_true", help="batch 1, 2 threads, a second each")
    parser.add_argument("--require", type=float, metavar="R",
                        help="exit 1 unless every fp32 and int8 ratio is at least R")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/bench"),
                        help="for models, inputs and logs")
    parser.add_argument("--json", type=pathlib.Path, help="default: WORK/compare.json")
    args = parser.parse_args()
    if args.quick:
        args.threads, args.batch, args.seconds = [2], [1], min(args.seconds, 1.0)
    available = len(os.sched_getaffinity(0))
    if max(args.threads) > available:
        parser.error(f"--threads {max(args.threads)}: there are {available} cores")
    args.json = args.json or args.work / "compare.json"
    return args


def main():
    args = ParseArgs()
    sys.stdout.reconfigure(line_buffering=True)
    args.work.mkdir(parents=True, exist_ok=True)
    machine, cells = Machine(), []
    for name in args.models:
        MeasureModel(args, name, cells)
    if not cells:
        return 1
    PrintRatios(cells)
    facts = next((r for c in cells for k, r in c["engines"].items() if "isa" in r), {})
    document = {"halftone_bench": 1, "machine": {**machine, "isa": facts.get("isa")},
                "seconds": args.seconds, "cells": cells,
                "geomean": {k: Geomean([c["ratios"][k] for c in cells]) for k, _ in RATIO_COLUMNS}}
    args.json.write_text(json.dumps(NullNans(document), indent=1))
    print(f"\n{args.json}: the same numbers and more")
    return Verdict(args, cells)


if __name__ == "__main__":
    sys.exit(main())
