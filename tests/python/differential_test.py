#!/usr/bin/env python3
"""Random graphs give the same result on three roads: reference evaluation, our plan, ONNX Runtime.

A graph follows from its seed alone. One that fails is made small and saved under BUILD/../differential/. Every operator
of ai.onnx in our table is drawn at every version, or listed in tests/differential/operators.py with the reason.

usage: differential_test.py --build FOLDER [--graphs N | --nightly] [--first SEED] [--only OPERATOR]
"""
import argparse
import collections
import pathlib
import sys
import time

import numpy as np
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))
from drawing import Drawing, Rejected, Schema  # noqa: E402
from motifs import MOTIFS, OLDEST_OPSET  # noqa: E402
from operators import DRAWS, UNDRAWN  # noqa: E402
from roads import Difference, RoadError, RunOrt, Runner, ScratchFolder, Session  # noqa: E402
from shrinking import Shrink  # noqa: E402

OPSETS = range(7, 23)
MAX_NODES = 30
NIGHTLY = 10_000
MOTIF_SHARE = 0.15


def Rows(table):
    """(operator, opsets) of every row of ai.onnx that a graph can have, in the table's order."""
    rows = [r for r in table if r["domain"] == ""]
    out = []
    for row in rows:
        later = [r["since"] for r in rows if r["name"] == row["name"] and r["since"] > row["since"]]
        opsets = [o for o in OPSETS if row["since"] <= o < min(later, default=99) and Schema(row["name"], o)]
        if opsets and row["name"] not in UNDRAWN:
            out.append((row["name"], row["since"], opsets))
    return out


def Draw(seed, rows, only):
    """The graph of a seed, and which operators it has. The first node is of the seed's own row."""
    rng = np.random.default_rng(seed)
    name, _, opsets = rows[seed % len(rows)]
    drawing = Drawing(rng, opsets[rng.integers(len(opsets))])
    available = sorted({r[0] for r in rows if drawing.opset in r[2]})
    wanted = drawing.Int(1, MAX_NODES) if rng.random() < 0.7 else drawing.Int(1, 4)
    drawn, rejected = [], collections.Counter()
    for _ in range(wanted * 3):
        op = name if not drawn and (only or rejected[name] < 20) else only or drawing.Pick(available)
        motif = not only and drawn and drawing.opset >= OLDEST_OPSET and drawing.Chance(MOTIF_SHARE)
        op = drawing.Pick(sorted(MOTIFS)) if motif else op
        mark = drawing.Mark()
        try:
            MOTIFS[op](drawing) if motif else DRAWS[op](drawing, op)
            drawn.append(f"motif {op}" if motif else op)
        except (Rejected, ValueError):  # ValueError: nothing to choose from, say no divisor
            drawing.Restore(mark)
            rejected[op] += 1
        if len(drawn) == wanted:
            break
    return drawing, drawn, rejected


def OtherBatch(model, fed):
    """Inputs whose axes named N are one longer, or None when there are none; rows repeat."""
    declared = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input}
    batched = [v.rank > 1 and declared[v.name][0].dim_param == "N" for v in fed]
    if not any(batched):
        return None
    return [np.take(v.array, range(v.shape[0] + 1), 0, mode="wrap") if b else v.array for v, b in zip(fed, batched)]


class Test:
    def __init__(self, runner, folder, saved):
        self.runner, self.saved = runner, saved
        self.path = pathlib.Path(folder) / "drawn.onnx"
        self.batches = self.refused = 0

    def Compare(self, model, calls, want, tolerances):
        """road → first difference, of the roads that differ from `want` (per call, per output)."""
        self.path.write_bytes(model.SerializeToString())
        differences = {}
        for road in ("reference", "plan"):
            try:
                got = self.runner.Call(road, self.path, calls)
            except RoadError as e:
                differences[road] = str(e)
                continue
            found = [f"call {k}, output {i}: {difference}" for k, (g, w) in enumerate(zip(got, want))
                     for i, (a, b) in enumerate(zip(g, w, strict=True)) if (difference := Difference(a, b, tolerances[i]))]
            if found:
                differences[road] = found[0]
        return differences

    def Check(self, model, fed, outputs, with_batch=False):
        try:
            session = Session(model.SerializeToString())
        except RoadError as e:  # its shape inference and its kernels do not always agree
            self.refused += 1
            print(f"ONNX Runtime refuses a whole graph: {e}")
            return {}
        calls = [[v.array for v in fed]]
        want = [RunOrt(session, calls[0])]
        tolerances = [v.Tolerance() for v in outputs]
        for v, w in zip(outputs, want[0]):
            if Difference(w, v.array, v.Tolerance()):  # then it cannot judge us
                self.refused += 1
                print(f"ONNX Runtime: {v.name} of a whole graph differs from its nodes one by one")
                return {}
        # The shaken values say nothing about other rows: only graphs with nothing but repeated rows and exact or
        # well-behaved operators get a second call.
        other = OtherBatch(model, fed) if with_batch else None
        if other is not None and all(v.Stray() == 0 or v.fine for v in outputs):
            try:
                # Ours first: where a constant of the graph wants the first batch, ONNX Runtime may not notice (a bias
                # with fewer elements than channels), or stop the process (a division by 0).
                self.path.write_bytes(model.SerializeToString())
                self.runner.Call("reference", self.path, [other])
                want.append(RunOrt(session, other))
                calls.append(other)
                self.batches += 1
            except RoadError:
                pass
        return self.Compare(model, calls, want, tolerances)

    def Report(self, seed, drawing, differences):
        print(f"seed {seed}, opset {drawing.opset}: {differences}", flush=True)

        def Fails(subgraph):
            try:
                found = self.Check(*subgraph.Parts())
            except RoadError:
                return False
            return bool(found.keys() & differences.keys())
        small = Shrink(drawing, Fails)
        if small is None:
            print("  fails only as a whole, with its symbolic batch")
            return
        model, fed, outputs = small.Parts()
        self.saved.mkdir(parents=True, exist_ok=True)
        onnx.save(model, self.saved / f"seed_{seed}.onnx")
        np.savez(self.saved / f"seed_{seed}.npz", **{v.name: v.array for v in [*fed, *outputs]})
        print(f"  {self.Check(model, fed, outputs)}")
        print("  " + onnx.printer.to_text(model.graph).replace("\n", "\n  "))


def Coverage(table, rows, drawn, rejected):
    """Operators and rows that no graph had and nobody excused."""
    names = {r["name"] for r in table if r["domain"] == ""}
    missing = [f"{n}: no way to draw it in tests/differential/draw_*.py, and no reason in operators.py" for n in sorted(names)
               if n not in DRAWS and n not in UNDRAWN]
    missing += [f"{n} of opset {since}: never drawn ({rejected[n]} times rejected)" for n, since, _ in rows
                if n in DRAWS and not drawn[n, since]]
    return missing


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--graphs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nightly", action="store_true", help=f"{NIGHTLY} graphs")
    parser.add_argument("--only", help="draw nothing but this operator")
    arguments = parser.parse_args()
    np.seterr(all="ignore")  # what overflows is rejected
    graphs = NIGHTLY if arguments.nightly else arguments.graphs
    start, failures, nodes, sizes = time.time(), 0, 0, collections.Counter()
    drawn, rejected, motifs = collections.Counter(), collections.Counter(), collections.Counter()
    with ScratchFolder() as folder, Runner(arguments.build, folder) as runner:
        table = runner.Table()
        all_rows = Rows(table)
        rows = [r for r in all_rows if r[0] in DRAWS and arguments.only in (None, r[0])]
        test = Test(runner, folder, pathlib.Path(arguments.build).parent / "differential")
        for seed in range(arguments.first, arguments.first + graphs):
            drawing, ops, refused = Draw(seed, rows, arguments.only)
            rejected.update(refused)
            model, fed, outputs = drawing.Finish()
            if not outputs:
                continue
            motifs.update(op for op in ops if op.startswith("motif"))
            for op in ops:
                if op.startswith("motif"):
                    continue
                drawn[op, max(r[1] for r in rows if r[0] == op and drawing.opset in r[2])] += 1
            nodes += len(ops)
            sizes[len(ops)] += 1
            try:
                differences = test.Check(model, fed, outputs, with_batch=True)
            except RoadError as e:
                differences = {"ONNX Runtime": str(e)}
            if differences:
                failures += 1
                test.Report(seed, drawing, differences)
    missing = [] if arguments.only or graphs < len(rows) else Coverage(table, all_rows, drawn, rejected)
    print(*missing, sep="\n", end="\n" if missing else "")
    print("motifs:", *(f"{n[6:]} {motifs[n]}" for n in sorted(motifs)))
    print(f"{sum(sizes.values())} graphs, {nodes} nodes of {len(drawn)} rows for {len({n for n, _ in drawn})} operators, "
          f"{test.batches} with a second batch, {failures} failures, {time.time() - start:.0f} s")
    if failures:
        print(f"a graph again: --graphs 1 --first SEED; saved under {test.saved}")
    if test.refused > 2 + graphs // 100:
        sys.exit(f"ONNX Runtime refuses {test.refused} graphs whose nodes it takes one by one")
    sys.exit(bool(failures or missing))


if __name__ == "__main__":
    main()
