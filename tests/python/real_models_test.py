#!/usr/bin/env python3
"""Real models on one plan each: every recorded input, then other batches, heights and widths, against ONNX Runtime.

usage: real_models_test.py --build FOLDER [--only REGEX]
"""
import argparse
import pathlib
import re
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))
from node_cases import RealModels  # noqa: E402
from roads import Difference, RoadError, RunOrt, Runner, ScratchFolder, Session  # noqa: E402

FLOAT, QDQ = 1e-4, 6e-2  # integer kernels round elsewhere than float arithmetic on the same QDQ graph
BATCHES = [2, 3, 1]
SIZES = [(64, 96), (160, 64)]


def Symbolic(session):
    """Per input: which axes are no number."""
    return [[i for i, d in enumerate(x.shape) if not isinstance(d, int)] for x in session.get_inputs()]


def WithBatch(inputs, symbolic, batch):
    """Rows that differ, along the first symbolic axis of each input."""
    def Rows(x, axis):
        row = np.take(x, [0], axis)
        return np.concatenate([row * row.dtype.type(1 - k / 4) if x.dtype.kind == "f" else np.roll(row, k, -1)
                               for k in range(batch)], axis).astype(x.dtype)
    return [Rows(x, axes[0]) if axes else x for x, axes in zip(inputs, symbolic)]


def WithSize(inputs, symbolic, size):
    """The nearest neighbours of each image of another height and width."""
    def Image(x):
        rows, columns = (np.arange(n) * old // n for n, old in zip(size, x.shape[2:]))
        return np.ascontiguousarray(x[:, :, rows][..., columns])
    return [Image(x) if axes[-2:] == [2, 3] else x for x, axes in zip(inputs, symbolic)]


def Calls(session, recorded):
    """(label, inputs) of everything that the model's signature allows and ONNX Runtime computes."""
    for i, inputs in enumerate(recorded):
        yield f"set {i}", inputs
    symbolic = Symbolic(session)
    if any(symbolic):
        for batch in BATCHES:
            yield f"batch {batch}", WithBatch(recorded[0], symbolic, batch)
    if any(axes[-2:] == [2, 3] for axes in symbolic):
        for size in SIZES:
            yield f"size {size}", WithSize(recorded[0], symbolic, size)


def Check(runner, path, recorded):
    """Messages, how many calls agreed, and what the model's own nodes do not allow."""
    session = Session(path)
    labels, calls, want, refused = [], [], [], []
    for label, inputs in Calls(session, recorded):
        try:
            want.append(RunOrt(session, inputs))
        except RoadError:
            refused.append(label)
            continue
        labels.append(label)
        calls.append(inputs)
    got = runner.Call("plan", path, calls)
    tolerance = QDQ if b"DequantizeLinear" in path.read_bytes() else FLOAT
    messages = [f"{label}, output {i}: {difference}" for label, g, w in zip(labels, got, want)
                for i, (a, b) in enumerate(zip(g, w, strict=True)) if (difference := Difference(a, b, tolerance))]
    return messages, len(calls), refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    failures, models, total = 0, 0, 0
    with ScratchFolder() as folder, Runner(arguments.build, folder) as runner:
        for name, path, recorded in RealModels():
            if not re.search(arguments.only, name):
                continue
            try:
                messages, calls, refused = Check(runner, path, recorded)
            except RoadError as e:
                messages, calls, refused = [str(e)], 0, []
            models, total, failures = models + 1, total + calls, failures + len(messages)
            print(*(f"{name}: {m}" for m in messages), sep="\n", end="\n" if messages else "")
            print(f"{name}: {calls} calls" + (f", ONNX Runtime refuses {', '.join(refused)}" if refused else ""))
    print(f"{models} models, {total} calls, {failures} differences")
    if models == 0:
        sys.exit(77)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
