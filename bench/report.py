#!/usr/bin/env python3
"""Writes the tables of docs/performance.md from the JSON of a run of ./dev bench.

    ./dev bench --full && ./dev bench --report
    ./dev bench --report --json build/bench/compare.json build/bench/real.json    # of several runs

What stands between the two marks of the file is replaced, plots beside it too; the rest is written
by hand.
"""
import argparse
import json
import pathlib

import plot
import weight_formats
from results import BARS, MEAN, METRICS, Bar, Geomean, Split

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN = "<!-- written by ./dev bench --report: begin -->"
END = "<!-- written by ./dev bench --report: end -->"

TIME_COLUMNS = {
    "ORT fp32": ["ort fp32"], "fp32": ["halftone fp32"], "bf16": ["halftone bf16"],
    "fp16": ["halftone fp16"], "ORT static": ["ort static"], "ORT dynamic": ["ort dynamic"],
    "static int8": ["halftone int8/per-channel/static"],
    "dynamic int8": ["halftone int8/per-channel/dynamic"],
    "limit fp32": ["limit fp32"], "limit int8": ["limit int8"],
}


def Table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def Number(value, bar=None):
    """With its bar, when there is one: **bold** when it is missed."""
    if value is None or value != value:
        return "–"
    text = f"{value:.2f}"
    if bar is None:
        return text
    return f"{text} (≥ {bar:g})" if value >= bar else f"**{text}** (≥ {bar:g})"


def Ratio(cell, metric):
    return cell["ratios"].get(metric)


def RatioTable(group, cells, judged):
    rows = []
    for cell in cells:
        rows.append([cell["model"]] + [
            Number(Ratio(cell, m), Bar(group, m, cell["model"]) if judged else None)
            for m in METRICS])
    means = [Number(Geomean([Ratio(c, m) for c in cells]), Bar(group, m, MEAN) if judged else None)
             for m in METRICS]
    return Table(["model", *METRICS.values()], [*rows, [MEAN, *means]])


def Time(cell, keys):
    engine = next((cell["engines"][k] for k in keys if k in cell["engines"]), None)
    if engine is None:
        return "–"
    if cell["workers"] > 1:
        return f"{engine['items_per_second']:.0f}"
    spread = 100 * (engine["p90_seconds"] / engine["p10_seconds"] - 1)
    return f"{1e3 * engine['p50_seconds']:.3g} ({spread:.0f} %)"


def TimeTable(cells):
    used = {title: keys for title, keys in TIME_COLUMNS.items()
            if any(k in c["engines"] for c in cells for k in keys)}
    return Table(["model", *used], [[c["model"]] + [Time(c, keys) for keys in used.values()]
                                    for c in cells])


def Failures(cells):
    lines = [f"- {c['model']}, {key}: {error}" for c in cells for key, error in c["errors"].items()]
    return ["Not measured:", "", *lines, ""] if lines else []


def TeamTable(document):
    """Rows per second: several workers of one thread against one team of as many threads."""
    cells = {(c["model"], c["threads"], c["workers"], c["batch"]): c for c in document["cells"]}
    keys = ["halftone fp32", "halftone int8/per-channel/static", "ort fp32", "ort static"]
    rows = []
    for (model, threads, workers, batch), cell in cells.items():
        team = cells.get((model, threads * workers, 1, batch))
        if workers == 1 or team is None:
            continue
        rate = lambda c, k: c["engines"][k]["items_per_second"] if k in c["engines"] else None
        rows.append([f"{model}, batch {batch}"] + [
            f"{rate(cell, k):.1f} / {rate(team, k):.1f}" if rate(cell, k) and rate(team, k) else "–"
            for k in keys])
    if not rows:
        return []
    return ["### Workers of one thread / one team of all threads, items per second", "",
            *Table(["model", "Halftone fp32", "Halftone static int8", "ORT fp32", "ORT static int8"],
                   rows)]


def WeightTable(rows):
    if not rows:
        return []
    table = Table(["weights", "ms", "× fp32"],
                  [[r["spec"], f"{r['milliseconds']:.3f}",
                    Number(r["vs_fp32"], weight_formats.BARS.get(r["spec"]))] for r in rows])
    return ["### Weight-only formats: 4096 × 4096, one row, one thread, weights from memory", "",
            *table]


def Joined(documents):
    """Runs of different models or setups as one; each names its machine."""
    return {"machines": [d["machine"] for d in documents],
            "cells": [c for d in documents for c in d["cells"]],
            "weight_formats": [row for d in documents for row in d["weight_formats"]]}


def Machine(m):
    return (f"{m['cpu']}, {m['cores']} cores, {m['isa']}; {m['system']}; ONNX Runtime "
            f"{m['onnxruntime']}, oneDNN {m['onednn']}; commit {m['commit']}, {m['time']}; load "
            f"average {m['load_average_before']:.2f} before, {m['load_average_after']:.2f} after.")


def Render(document, plots=None):
    """Lines of Markdown. `plots`: {(group, setup): file name}."""
    lines = [line for m in document["machines"] for line in (Machine(m), "")]
    for (group, setup), cells in Split(document["cells"]).items():
        # The bars are for two threads, batch 1 and 8.
        judged = group in BARS and cells[0]["threads"] == 2 and cells[0]["workers"] == 1
        lines += [f"### {group.capitalize()} models, {setup}", ""]
        if plots and (group, setup) in plots:
            lines += [f"![Times of {group} models, {setup}]({plots[group, setup]})", ""]
        lines += RatioTable(group, cells, judged)
        lines += ["Items per second:" if cells[0]["workers"] > 1 else
                  "Medians in ms (spread: p90 over p10):", "", *TimeTable(cells), *Failures(cells)]
    return lines + TeamTable(document) + WeightTable(document["weight_formats"])


def Replace(text, lines):
    """The text with what stands between the marks replaced."""
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return head + "\n".join([BEGIN, "", *lines, END]) + tail


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="what ./dev bench chose this by")
    parser.add_argument("--build", help="ignored: nothing is run")
    parser.add_argument("--json", type=pathlib.Path, nargs="+",
                        default=[ROOT / "build" / "bench" / "compare.json"])
    parser.add_argument("--document", type=pathlib.Path, default=ROOT / "docs" / "performance.md")
    args = parser.parse_args()
    document = Joined([json.loads(path.read_text()) for path in args.json])
    stem = args.document.stem
    paths = plot.Write(document, args.document.parent, stem)
    plots = {key: path.name for key, path in zip(Split(document["cells"]), paths, strict=True)}
    args.document.write_text(Replace(args.document.read_text(), Render(document, plots)))
    for path in [args.document, *paths]:
        print(path)


if __name__ == "__main__":
    main()
