#!/usr/bin/env python3
"""What we import and export again, ONNX Runtime answers like the original: real models and ONNX's node tests.

usage: roundtrip_test.py --build FOLDER [--only REGEX]
"""
import argparse
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))
from node_cases import NodeCases, RealModels  # noqa: E402
from roads import Difference, RoadError, RunOrt, Runner, ScratchFolder, Session  # noqa: E402

WANTED = 500
# The same kernels run on the same nodes; only what import or the passes folded may round elsewhere.
AS_IMPORTED, AFTER_PASSES = 1e-6, 1e-4
# Nodes whose outputs are random.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def Compare(runner, path, calls, portable):
    """Differences between the exported file and the original, or None when a road does not know an operator."""
    try:
        session = Session(path)
        want = [RunOrt(session, inputs) for inputs in calls]
    except RoadError:
        return None  # ONNX Runtime has no such kernel
    try:
        exported = runner.Export(path, portable)
    except RoadError as e:
        return None if str(e).startswith("UNIMPLEMENTED") else [f"export: {e}"]
    try:
        session = Session(exported)
        got = [RunOrt(session, inputs) for inputs in calls]
    except RoadError as e:
        return [f"ONNX Runtime on the exported file: {e}"]
    tolerance = AFTER_PASSES if portable else AS_IMPORTED
    return [f"output {i}: {difference}" for g, w in zip(got, want) for i, (a, b) in enumerate(zip(g, w, strict=True))
            if (difference := Difference(a, b, tolerance))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    only = re.compile(arguments.only)
    failures, agreed, unknown = [], 0, []
    with ScratchFolder() as folder, Runner(arguments.build, folder) as runner:

        def Check(name, path, calls):
            nonlocal agreed
            for portable in (False, True):
                differences = Compare(runner, path, calls, portable)
                label = f"{name}{' after the portable passes' if portable else ''}"
                if differences is None:
                    unknown.append(label)
                elif differences:
                    failures.extend(f"{label}: {d}" for d in differences)
                elif not portable:
                    agreed += 1

        for name, path, calls in RealModels():
            if only.search(name):
                Check(name, path, calls)
                if name in unknown:
                    failures.append(f"{name}: not imported, or not known to ONNX Runtime")
        models, agreed = agreed, 0
        path = pathlib.Path(folder) / "case.onnx"
        for name, model, inputs in NodeCases():
            if only.search(name) and not any(n.op_type in RANDOM for n in model.graph.node):
                path.write_bytes(model.SerializeToString())
                Check(name, path, [inputs])
    print(*failures, sep="\n")
    print(f"{models} models and {agreed} node tests came through unchanged, {len(failures)} failures, "
          f"{len(unknown)} that one side does not know")
    if not arguments.only and agreed < WANTED:
        sys.exit(f"want at least {WANTED} node tests")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
