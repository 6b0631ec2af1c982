#!/usr/bin/env python3
"""Compares Halftone's executor with ONNX Runtime: same models, inputs, threads, cores and run.

    ./dev bench [--quick | --full] [--models resnet50,real] [--threads 1,2] [--batch 1,8]

One process per engine and precision, measured in turns so that a noisy minute hits all of them.
Prints tables and writes JSON and plots. bench/README.md says how to read them.
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

import onnx

import models
import plot
import results
import weight_formats
import workloads
from engines import HERE, Engines, Setup, Start
from measure import FP32_TOLERANCE, STEP_TOLERANCE, CompareOutputs, MeasureCell


def Machine():
    with open("/proc/cpuinfo", encoding="ascii") as cpuinfo:
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo
                     if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    if load > 0.7:
        print(f"bench: the load average is {load:.1f}: something else is running, and the spread "
              "will show it", file=sys.stderr)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "load_average_before": load,
            "system": system, "python": platform.python_version(), "onnx": onnx.__version__,
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": Commit()}


def Commit():
    """Of the sources, or None where they are no repository."""
    try:
        done = subprocess.run(["git", "-c", "safe.directory=*", "-C", HERE, "rev-parse", "--short",
                               "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def Setups(args):
    """In the order in which they are measured: those that share processes lie together."""
    setups = [Setup(threads, 1, batch) for threads in args.threads for batch in args.batch]
    batches = args.batch if args.full else args.batch[-1:]
    return setups + [Setup(1, workers, batch) for workers in args.workers for batch in batches]


def MeasureModel(args, name, cells):
    label, path = workloads.FindModel(name, args.work / "models")
    graph = onnx.load(path, load_external_data=False).graph
    inputs = workloads.WriteInputs(label, path, graph, args.batch, args.work / "inputs")
    engines = Engines(args, path, graph, inputs)
    setups = [s for s in Setups(args) if s.batch in inputs]
    for threads, workers in dict.fromkeys((s.threads, s.workers) for s in setups):
        print(f"{label}, {workers} × {threads} threads …", file=sys.stderr)
        start_errors = {}
        started = Start(engines, threads, workers, args.work, start_errors)
        for setup in (s for s in setups if (s.threads, s.workers) == (threads, workers)):
            facts = {"model": label, "group": workloads.GroupOf(name),
                     "quantized": workloads.IsQuantized(graph)}
            cells.append(MeasureSetup(args, facts, setup, started, dict(start_errors)))
            results.PrintDetails(cells[-1])
        for worker in started:
            worker.Close()


def MeasureSetup(args, facts, setup, started, errors):
    quantized = facts["quantized"]
    sqnr = CompareOutputs(started, setup.batch, args.work, errors,
                          STEP_TOLERANCE if quantized else FP32_TOLERANCE)
    measured = MeasureCell([w for w in started if w.key not in errors], setup, args.seconds, errors)
    for key, value in sqnr.items():
        if key in measured:
            measured[key]["sqnr_db"] = value
    return {**facts, **setup._asdict(), "engines": measured, "errors": errors,
            "ratios": results.Ratios(measured, "p50_seconds", setup.workers, quantized),
            "ratios_of_minima": results.Ratios(measured, "min_seconds", setup.workers, quantized)}


def NullNans(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: NullNans(v) for k, v in value.items()}
    if isinstance(value, list):
        return [NullNans(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def Verdict(args, cells):
    """Exit code: 1 when one of our engines failed or a ratio is below --require."""
    where = lambda c: f"{c['model']}, {results.SetupName(c)}"
    bad = [f"{where(c)}: {k}: {e}" for c in cells for k, e in c["errors"].items()
           if k.startswith("halftone") and workloads.NOTHING_TO_QUANTIZE not in e]
    if args.require:
        bad += [f"{where(c)}: {k} ratio {c['ratios'][k]:.2f} is below {args.require}"
                for c in cells for k in ("fp32", "int8") if not c["ratios"][k] >= args.require]
    for line in bad:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if bad else 0


def ParseArgs():
    words = lambda text: [w for w in text.split(",") if w]
    numbers = lambda text: [int(w) for w in words(text)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="CMake build folder")
    parser.add_argument("--models", type=words, metavar="A,B",
                        help=f"generated (the default: {', '.join(models.MODELS)}); real (all "
                        "folders of $HALFTONE_MODELS); names of either; .onnx files")
    parser.add_argument("--threads", type=numbers, metavar="1,2", help="of one team; default 2")
    parser.add_argument("--workers", type=numbers, default=[2], metavar="2",
                        help="several runs at once, of one thread each; 0: leave them out")
    parser.add_argument("--batch", type=numbers, default=[1, 8], metavar="1,8")
    parser.add_argument("--specs", type=words, metavar="A,B", help="our precisions; default all")
    parser.add_argument("--seconds", type=float, default=2.0, help="per engine and setup")
    parser.add_argument("--quick", action="store_true",
                        help="batch 1, 2 threads, a second each, three models")
    parser.add_argument("--full", action="store_true",
                        help="1 and 2 threads, workers at every batch, generated and real models, "
                        "weight formats: two hours")
    parser.add_argument("--weight-formats", action="store_true", dest="weights",
                        help="also a large layer in every weight-only format")
    parser.add_argument("--require", type=float, metavar="R",
                        help="exit 1 unless every fp32 and int8 ratio is at least R")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/bench"),
                        help="for models, inputs and logs")
    parser.add_argument("--json", type=pathlib.Path, help="default: WORK/compare.json")
    args = parser.parse_args()
    available = len(os.sched_getaffinity(0))
    if args.quick:
        args.batch, args.workers, args.seconds = [1], [], min(args.seconds, 1.0)
    args.models = args.models or (["generated", "real"] if args.full else
                                  ["resnet50", "mobilenet_v2", "bert_base"] if args.quick else
                                  ["generated"])
    args.threads = args.threads or ([1, 2] if args.full else [min(2, available)])
    args.workers = [w for w in args.workers if w > 1]
    args.weights = args.weights or args.full
    if max(args.threads + args.workers) > available:
        parser.error(f"there are {available} cores, not {max(args.threads + args.workers)}")
    args.json = args.json or args.work / "compare.json"
    return args


def main():
    args = ParseArgs()
    sys.stdout.reconfigure(line_buffering=True)
    args.work.mkdir(parents=True, exist_ok=True)
    machine, cells = Machine(), []
    for name in workloads.Expand(args.models):
        MeasureModel(args, name, cells)
    if not cells:
        return 1
    results.PrintRatios(cells)
    facts = {k: r for c in cells for k, r in c["engines"].items()}
    machine["isa"] = next((r["isa"] for r in facts.values() if "isa" in r), None)
    machine["onnxruntime"] = next((r["engine"].split()[-1] for k, r in facts.items()
                                   if k.startswith("ort")), None)
    machine["onednn"] = next((r["engine"].split()[-1] for k, r in facts.items()
                              if k.startswith("limit")), None)
    machine["load_average_after"] = os.getloadavg()[0]
    document = {"halftone_bench": 2, "machine": machine, "seconds": args.seconds, "cells": cells,
                "geomeans": results.Geomeans(cells),
                "weight_formats": weight_formats.Measure(args.build) if args.weights else []}
    weight_formats.Print(document["weight_formats"])
    document = NullNans(document)
    args.json.write_text(json.dumps(document, indent=1))
    print(f"\n{args.json}: the same numbers and more")
    for path in plot.Write(document, args.json.parent, args.json.stem):
        print(path)
    return Verdict(args, cells)


if __name__ == "__main__":
    sys.exit(main())
