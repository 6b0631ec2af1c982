#!/usr/bin/env python3
"""Checks who may include whom (docs/architecture.md, "Who may include whom"). Exit code 1 on a breach."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# folder -> folders of ours that it may include (itself always)
MAY = {
    "core/base": [],
    "core/tensor": ["core/base"],
    "core/image": ["core/tensor", "core/base"],
    "core/quant": ["core/tensor", "core/base"],
    "core/graph": ["core/tensor", "core/base"],
    "core/ops": ["core/graph", "core/image", "core/quant", "core/tensor", "core/base"],
    "core/onnx": ["core/ops", "core/graph", "core/tensor", "core/base"],
    "core/passes": ["core/ops", "core/graph", "core/quant", "core/tensor", "core/base"],
    "core/exec": ["core/ops", "core/graph", "core/quant", "core/tensor", "core/base"],
    "core/variant": ["core/passes", "core/exec", "core/quant", "core/ops", "core/graph", "core/tensor",
                     "core/base"],
    "core/store": ["core/variant", "core/onnx", "core/passes", "core/exec", "core/quant", "core/ops",
                   "core/graph", "core/tensor", "core/base"],
    "server": ["core/store", "core/variant", "core/exec", "core/quant", "core/graph", "core/tensor",
               "core/base"],
    "client": ["core/store", "core/variant", "core/exec", "core/quant", "core/graph", "core/tensor",
               "core/base", "core/onnx", "core/passes"],
}
# vendor header pattern -> folders that may use it
VENDOR = [
    (r"onnx/|onnx.*\.pb\.h", ["core/onnx"]),
    (r"(oneapi/)?dnnl|omp\.h", ["core/exec"]),
    (r"turbojpeg|png\.h|webp/|tiffio|openjpeg", ["core/image"]),
    (r"grpc", ["server", "client"]),
    (r"prometheus/|civetweb|CivetServer", ["server"]),
    (r"(halftone/v1|inference)/.*pb\.h", ["server", "client"]),
]
OURS = sorted(MAY, key=len, reverse=True)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def folder_of(path):
    return next((f for f in OURS if path == f or path.startswith(f + "/")), None)


def main():
    problems = []
    for folder in MAY:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix not in (".h", ".cc"):
                continue
            name = file.relative_to(ROOT).as_posix()
            for target in INCLUDE.findall(file.read_text()):
                other = folder_of(target)
                if other and other != folder and other not in MAY[folder]:
                    problems.append(f"{name}: includes {target}, {folder} may include {MAY[folder]}")
                for pattern, allowed in VENDOR:
                    if not other and re.match(pattern, target) and folder not in allowed:
                        problems.append(f"{name}: includes <{target}>, allowed only in {allowed}")
    print("\n".join(problems) or "include rules: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
