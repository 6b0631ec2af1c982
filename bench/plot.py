#!/usr/bin/env python3
"""Draws the times of a run of ./dev bench as grouped bars, one SVG file per group and setup.

    python3 bench/plot.py build/bench/compare.json [--out docs/performance]
"""
import argparse
import html
import json
import pathlib
import re

from results import Split

# Series: title, engines (the fastest that is there counts), colour. ONNX Runtime is grey.
SERIES = [
    ("ONNX Runtime fp32", ["ort fp32"], "#9a9a9a"),
    ("Halftone fp32", ["halftone fp32"], "#1f4e79"),
    ("Halftone bf16", ["halftone bf16"], "#2e7fb8"),
    ("Halftone fp16", ["halftone fp16"], "#7fb2d9"),
    ("ONNX Runtime int8 (best)", ["ort static", "ort dynamic"], "#c4c4c4"),
    ("Halftone int8 (best)", ["halftone int8/per-channel/static",
                              "halftone int8/per-channel/dynamic"], "#d9822b"),
]
# Drawn across the bar of the series with this title.
LIMITS = {"Halftone fp32": "limit fp32", "Halftone bf16": "limit bf16",
          "Halftone int8 (best)": "limit int8"}

COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT, BARS_HEIGHT = 250, 210, 140
BAR_WIDTH, LEFT, TOP = 30, 20, 84


def Milliseconds(cell, keys):
    """Of one row of the batch: several workers share the time of a run."""
    times = [1e3 / cell["engines"][k]["items_per_second"] for k in keys if k in cell["engines"]]
    return min(times, default=None)


def Digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def Text(x, y, text, **style):
    attributes = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{html.escape(text)}</text>'


def Bar(x, top, bottom, colour, tip):
    return (f'<rect x="{x:.1f}" y="{top:.1f}" width="{BAR_WIDTH}" height="{bottom - top:.1f}" '
            f'fill="{colour}"><title>{html.escape(tip)}</title></rect>')


def Panel(cell, x, y):
    """One model: bars from its own zero to its slowest engine."""
    times = {title: Milliseconds(cell, keys) for title, keys, _ in SERIES}
    highest = max((t for t in times.values() if t), default=1.0)
    bottom = y + 30 + BARS_HEIGHT
    parts = [Text(x, y + 10, cell["model"], font_weight="bold"),
             f'<line x1="{x}" y1="{bottom}" x2="{x + len(SERIES) * (BAR_WIDTH + 5)}" '
             f'y2="{bottom}" stroke="#444"/>']
    for index, (title, _, colour) in enumerate(SERIES):
        if times[title] is None:
            continue
        left = x + index * (BAR_WIDTH + 5)
        top = bottom - BARS_HEIGHT * times[title] / highest
        parts.append(Bar(left, top, bottom, colour, f"{title}: {times[title]:.3f} ms"))
        parts.append(Text(left + BAR_WIDTH / 2, top - 4, Digits(times[title]),
                          text_anchor="middle", font_size=10))
        limit = cell["engines"].get(LIMITS.get(title))
        if limit and limit.get("skipped") == 0:
            value = 1e3 / limit["items_per_second"]
            at = bottom - BARS_HEIGHT * value / highest
            parts.append(f'<line x1="{left - 2}" y1="{at:.1f}" x2="{left + BAR_WIDTH + 2}" '
                         f'y2="{at:.1f}" stroke="#c00" stroke-width="2">'
                         f"<title>limit: {value:.3f} ms</title></line>")
    return parts


def Legend():
    parts, x = [], LEFT
    for title, _, colour in SERIES:
        parts.append(f'<rect x="{x}" y="48" width="10" height="10" fill="{colour}"/>')
        parts.append(Text(x + 14, 57, title))
        x += 28 + 6.8 * len(title)
    parts.append(f'<line x1="{x}" y1="53" x2="{x + 12}" y2="53" stroke="#c00" stroke-width="2"/>')
    return parts + [Text(x + 16, 57, "limit")]


def Draw(cells, title):
    """The text of an SVG file. `cells` have one setup."""
    rows = -(-len(cells) // COLUMNS)
    width, height = LEFT + COLUMNS * PANEL_WIDTH, TOP + rows * PANEL_HEIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#222">',
             f"<title>{html.escape(title)}</title>",
             f'<rect width="{width}" height="{height}" fill="#fff"/>',
             Text(LEFT, 28, title, font_size=16, font_weight="bold"), *Legend()]
    for index, cell in enumerate(cells):
        parts += Panel(cell, LEFT + index % COLUMNS * PANEL_WIDTH,
                       TOP + index // COLUMNS * PANEL_HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def FileName(stem, group, setup):
    return f"{stem}-{group}-" + re.sub("[^0-9a-z]+", "-", setup.replace("×", "x").lower()) + ".svg"


def Write(document, folder, stem):
    """Paths of the files, one per group and setup."""
    paths = []
    for (group, setup), cells in Split(document["cells"]).items():
        path = pathlib.Path(folder) / FileName(stem, group, setup)
        path.write_text(Draw(cells, f"Milliseconds per input: {group} models, {setup}"))
        paths.append(path)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="folder and beginning of the names; "
                        "default: beside the JSON file")
    args = parser.parse_args()
    out = args.out or args.json.with_suffix("")
    for path in Write(json.loads(args.json.read_text()), out.parent, out.name):
        print(path)


if __name__ == "__main__":
    main()
