#!/usr/bin/env python3
"""Shows where the time of a run goes: per operator and per lowering rule.

    ./dev bench --profile [--models resnet50,silero_vad_16k] [--specs fp32,bf16] [--max-reference 0.1]

One table per model and precision, then one line per model with the share of time in reference
code, then the operators that cost most of it. bench/README.md says how to read them.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

import onnx

import workloads

SPECS = ["fp32", "bf16", "fp16", "int8/per-channel/static"]
REFERENCE = "reference"


def RunOne(args, path, spec, inputs):
    """The program's line of JSON, or the message of a run that failed."""
    command = [pathlib.Path(args.build) / "bench" / "halftone_bench", path, "--profile",
               "--spec", spec, "--threads", str(args.threads), "--seconds", str(args.seconds),
               *(word for flag in inputs.values() for word in ("--inputs", flag))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    return (done.stderr.strip().splitlines() or ["no message"])[-1]


def Sum(steps, *keys):
    """{(value of each key): (seconds, steps, bytes)}, the longest first."""
    sums = collections.defaultdict(lambda: [0.0, 0, 0])
    for step in steps:
        entry = sums[tuple(step[k] for k in keys)]
        entry[0] += step["seconds"]
        entry[1] += 1
        entry[2] += step["bytes"]
    return dict(sorted(sums.items(), key=lambda item: -item[1][0]))


def Share(steps):
    total = sum(s["seconds"] for s in steps)
    reference = sum(s["seconds"] for s in steps if s["rule"] == REFERENCE)
    return reference / total if total else 0.0


def PrintModel(label, spec, steps, least):
    total = sum(s["seconds"] for s in steps)
    print(f"\n{label}, {spec}: {1e3 * total:.3f} ms in {len(steps)} steps")
    print(f"  {'ms':>9} {'share':>6} {'steps':>6} {'MB':>8} {'GB/s':>6}  {'rule':<18} operator")
    rest, rest_count = 0.0, 0
    for (rule, op), (seconds, count, moved) in Sum(steps, "rule", "op").items():
        if seconds < least * total and rule != REFERENCE:
            rest, rest_count = rest + seconds, rest_count + count
            continue
        print(f"  {1e3 * seconds:9.3f} {seconds / total:6.1%} {count:6} {1e-6 * moved:8.2f} "
              f"{1e-9 * moved / max(seconds, 1e-9):6.1f}  {rule:<18} {op}")
    if rest_count:
        print(f"  {1e3 * rest:9.3f} {rest / total:6.1%} {rest_count:6} {'':>15}  (smaller ones)")


def PrintSummary(shares, all_steps):
    specs = list(dict.fromkeys(spec for _, spec in shares))
    print(f"\nshare of time in reference code\n  {'model':<26}" +
          "".join(f"{s.split('/')[0]:>9}" for s in specs))
    for label in dict.fromkeys(label for label, _ in shares):
        print(f"  {label:<26}" + "".join(
            f"{shares[label, s]:9.1%}" if (label, s) in shares else f"{'-':>9}" for s in specs))
    # Every model counts the same, however long it runs.
    weights = collections.defaultdict(float)
    for steps in all_steps.values():
        total = sum(s["seconds"] for s in steps) or 1.0
        for (rule, op), (seconds, *_) in Sum(steps, "rule", "op").items():
            weights[rule, op] += seconds / total / len(all_steps)
    print(f"\nall models, each with the same weight\n  {'share':>6}  {'rule':<18} operator")
    for (rule, op), share in sorted(weights.items(), key=lambda item: -item[1]):
        if share >= 0.002 or rule == REFERENCE:
            print(f"  {share:6.2%}  {rule:<18} {op}")


def ParseArgs():
    words = lambda text: [w for w in text.split(",") if w]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="what ./dev bench chose this by")
    parser.add_argument("--build", default="build/release", help="CMake build folder")
    parser.add_argument("--models", type=words, default=["generated", "real"],
                        metavar="A,B", help="as for compare.py; default: every one")
    parser.add_argument("--specs", type=words, default=SPECS, metavar="A,B")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="per model and precision")
    parser.add_argument("--least", type=float, default=0.01, help="smaller shares are summed up")
    parser.add_argument("--max-reference", type=float, metavar="SHARE",
                        help="exit 1 when a model spends more of its time in reference code")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/bench"))
    parser.add_argument("--json", type=pathlib.Path, help="default: WORK/profile.json")
    args = parser.parse_args()
    args.json = args.json or args.work / "profile.json"
    return args


def main():
    args = ParseArgs()
    sys.stdout.reconfigure(line_buffering=True)
    args.work.mkdir(parents=True, exist_ok=True)
    shares, all_steps, failed = {}, {}, []
    for name in workloads.Expand(args.models):
        label, path = workloads.FindModel(name, args.work / "models")
        graph = onnx.load(path, load_external_data=False).graph
        inputs = workloads.WriteInputs(label, path, graph, [1], args.work / "inputs")
        for spec in args.specs:
            result = RunOne(args, path, spec, inputs)
            if isinstance(result, str):
                if workloads.NOTHING_TO_QUANTIZE not in result:
                    failed.append(f"{label}, {spec}: {result}")
                continue
            steps = all_steps[label, spec] = result["steps"]
            shares[label, spec] = Share(steps)
            PrintModel(label, spec, steps, args.least)
    PrintSummary(shares, all_steps)
    args.json.write_text(json.dumps([{"model": label, "spec": spec, "reference": shares[label, spec],
                                      "steps": steps}
                                     for (label, spec), steps in all_steps.items()], indent=1))
    if args.max_reference is not None:
        failed += [f"{label}, {spec}: {share:.1%} in reference code, at most "
                   f"{args.max_reference:.0%} allowed"
                   for (label, spec), share in shares.items() if share > args.max_reference]
    for line in failed:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
