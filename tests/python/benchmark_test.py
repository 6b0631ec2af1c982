#!/usr/bin/env python3
"""The benchmark's harness on a tiny model: what its JSON, plots and report contain, not how fast anything is.

usage: benchmark_test.py --build FOLDER
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np

from halftone_server import ROOT

BENCH = ROOT / "bench"
SVG = "{http://www.w3.org/2000/svg}"
STATIC = "halftone int8/per-channel/static"
TEAM = {"halftone fp32", "halftone bf16", "halftone fp16", STATIC, "ort fp32", "ort static"}
LIMITS = {"limit fp32", "limit bf16", "limit int8"}
# Multiply-accumulates of one input of Tiny().
CONV, GROUPED, PRODUCT = 8 * 8 * 32 * 16 * 9, 4 * 4 * 32 * 9, 32 * 10


def Tiny(path):
    """Conv, depthwise Conv, mean, Gemm: x f32[N,16,8,8] -> f32[N,10]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(3)
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 8, name)
               for name, shape in (("w0", (32, 16, 3, 3)), ("w1", (32, 1, 3, 3)), ("w2", (10, 32)))]
    pads = dict(pads=[1, 1, 1, 1])
    nodes = [helper.make_node("Conv", ["x", "w0"], ["a"], name="wide", **pads),
             helper.make_node("Relu", ["a"], ["b"], name="relu"),
             helper.make_node("Conv", ["b", "w1"], ["c"], name="deep", group=32, strides=[2, 2], **pads),
             helper.make_node("GlobalAveragePool", ["c"], ["d"], name="mean"),
             helper.make_node("Flatten", ["d"], ["e"], name="flat"),
             helper.make_node("Gemm", ["e", "w2"], ["y"], name="last", transB=1)]
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "tiny", [value("x", "N", 16, 8, 8)], [value("y", "N", 10)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def Run(*command):
    done = subprocess.run([sys.executable, "-B", *map(str, command)], cwd=ROOT, capture_output=True, text=True,
                          timeout=300, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def Require(condition, what):
    if not condition:
        sys.exit(f"benchmark_test: {what}")


def CheckCell(cell, workers):
    where = f"{cell['workers']} workers, batch {cell['batch']}"
    want = TEAM if workers > 1 else TEAM | LIMITS
    Require(set(cell["engines"]) == want, f"{where}: engines {sorted(cell['engines'])}, want {sorted(want)}")
    Require(not cell["errors"], f"{where}: {cell['errors']}")
    for key, engine in cell["engines"].items():
        Require(0 < engine["min_seconds"] <= engine["p10_seconds"] <= engine["p50_seconds"] <= engine["p90_seconds"],
                f"{where}, {key}: quantiles out of order")
        Require(engine["items_per_second"] > 0 and engine["resident_bytes"] > 1 << 20, f"{where}, {key}: {engine}")
        if key in LIMITS:
            operations = 2 * cell["batch"] * (CONV + GROUPED + PRODUCT)
            Require(engine["operations"] == operations and engine["products"] == 3 and engine["skipped"] == 0,
                    f"{where}, {key}: {engine}, want {operations} operations in 3 products")
        else:
            least = 5 if "int8" in key or "static" in key else 20  # means of noise, calibrated on one input
            Require(engine["sqnr_db"] > least, f"{where}, {key}: {engine['sqnr_db']} dB")
    ratios = cell["ratios"]
    seconds = lambda key: 1 / cell["engines"][key]["items_per_second"]
    for metric, theirs, ours in (("fp32", "ort fp32", "halftone fp32"), ("int8", "ort static", STATIC),
                                 ("int8_vs_own_fp32", "halftone fp32", STATIC)):
        want = seconds(theirs) / seconds(ours)
        Require(abs(ratios[metric] / want - 1) < 1e-9, f"{where}: {metric} is {ratios[metric]}, want {want}")
    Require((ratios["limit_int8"] is None) == (workers > 1), f"{where}: of limit {ratios['limit_int8']}")


def CheckPlot(path, cells):
    root = ElementTree.parse(path).getroot()
    bars = [e for e in root.iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    Require(len(bars) == 6 * len(cells), f"{path.name}: {len(bars)} bars, want 6 for each of {len(cells)} models")
    for bar in bars:
        Require(0 < float(bar.get("height")) <= 140.05, f"{path.name}: a bar of height {bar.get('height')}")
    limits = [e for e in root.iter(f"{SVG}line") if e.find(f"{SVG}title") is not None]
    want = 3 * sum(cell["workers"] == 1 for cell in cells)
    Require(len(limits) == want, f"{path.name}: {len(limits)} limits, want {want}")


def CheckReport(document, folder):
    page = folder / "performance.md"
    marks = ["<!-- written by ./dev bench --report: begin -->", "<!-- written by ./dev bench --report: end -->"]
    page.write_text(f"# By hand\n{marks[0]}\nold\n{marks[1]}\nby hand, too\n")
    Run(BENCH / "report.py", "--report", "--json", document, "--document", page)
    text = page.read_text()
    Require(text.startswith(f"# By hand\n{marks[0]}\n") and text.endswith(f"{marks[1]}\nby hand, too\n"),
            "the report changed what is written by hand")
    Require("\nold\n" not in text, "the report kept old tables")
    for line in text.splitlines():
        if line.startswith("!["):
            Require((folder / line.rsplit("(", 1)[1].rstrip(")")).exists(), f"{line}: no such file")
    rows = [line for line in text.splitlines() if line.startswith("| tiny |")]
    cells = json.loads(document.read_text())["cells"]
    Require(len(rows) == 2 * len(cells), f"{len(rows)} rows of the model, want ratios and times of {len(cells)} setups")
    ratio = f"{cells[0]['ratios']['int8']:.2f}"
    Require(ratio in rows[0], f"the first table has no {ratio}: {rows[0]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build.resolve()
    several = len(os.sched_getaffinity(0)) > 1
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        Tiny(folder / "tiny.onnx")
        out = Run(BENCH / "compare.py", "--build", build, "--models", folder / "tiny.onnx", "--threads", 1,
                  "--batch", "1,2", "--workers", 2 if several else 0, "--seconds", 0.02, "--work", folder / "work")
        Require("geometric mean" in out, f"no means in {out}")
        document = folder / "work" / "compare.json"
        result = json.loads(document.read_text())
        got = [(c["threads"], c["workers"], c["batch"]) for c in result["cells"]]
        want = [(1, 1, 1), (1, 1, 2)] + ([(1, 2, 2)] if several else [])
        Require(got == want, f"setups {got}, want {want}")
        Require(len(result["geomeans"]) == len(want) and result["machine"]["isa"], "no means or no machine")
        for cell in result["cells"]:
            CheckCell(cell, cell["workers"])
        plots = sorted((folder / "work").glob("compare-*.svg"))
        Require(len(plots) == len(want), f"plots {plots}, want one per setup")
        for path in plots:
            CheckPlot(path, [c for c in result["cells"] if f"batch-{c['batch']}" in path.name and
                             (c["workers"] > 1) == ("workers" in path.name)])
        CheckReport(document, folder)
        profile = Run(BENCH / "profile_models.py", "--build", build, "--models", folder / "tiny.onnx", "--seconds",
                      0.02, "--specs", "fp32", "--work", folder / "work")
        Require("conv" in profile and "GB/s" in profile, f"no bytes in the profile: {profile}")
        steps = json.loads((folder / "work" / "profile.json").read_text())[0]["steps"]
        Require(all(s["bytes"] > 0 for s in steps), f"a step that moves nothing: {steps}")
    print("the benchmark's harness works")


if __name__ == "__main__":
    main()
