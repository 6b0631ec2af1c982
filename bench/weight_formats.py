"""A large matrix product in every weight-only format: time should follow the bytes of the weights."""
import json
import os
import statistics
import subprocess

from engines import Program

ROUNDS = 3
ROWS = 1
# What issue 5 asks for: how many times as fast as fp32.
BARS = {"int4/per-group-128/weight-only": 8.0, "int4/per-group-32/weight-only": 5.0,
        "int8/per-group-128/weight-only": 4.0}


def Measure(build):
    """[{"spec", "rows", "milliseconds", "vs_fp32"}…], medians of whole rounds on one core."""
    core = {max(os.sched_getaffinity(0))}
    seen = {}
    for _ in range(ROUNDS):
        done = subprocess.run(
            [Program(build, "weight_formats_bench"), "--benchmark_format=json",
             f"--benchmark_filter=/{ROWS}/"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, core))
        for row in json.loads(done.stdout)["benchmarks"]:
            # "BM_Layer/int4/per-group-128/weight-only/1/min_time:0.300"
            spec = row["name"].removeprefix("BM_Layer/").rsplit(f"/{ROWS}/", 1)[0]
            seen.setdefault(spec, []).append(row["ms"])
    milliseconds = {spec: statistics.median(times) for spec, times in seen.items()}
    return [{"spec": spec, "rows": ROWS, "milliseconds": ms,
             "vs_fp32": milliseconds["fp32"] / ms} for spec, ms in milliseconds.items()]


def Print(rows):
    if not rows:
        return
    print(f"\n4096 × 4096 weights, {ROWS} row, one thread, from memory")
    for row in rows:
        print(f"  {row['spec']:<34}{row['milliseconds']:9.3f} ms{row['vs_fp32']:8.2f} × fp32")
