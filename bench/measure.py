"""Measures engines in turns, so that a noisy minute on the machine hits all of them."""
import math
import sys
import time

import numpy as np

SETTLE_SECONDS = 0.02  # idle OpenMP and ONNX Runtime threads spin for a while after a run
ROUNDS = 20
# A fp32 engine further from ONNX Runtime's fp32 output than this share of its largest value is wrong.
FP32_TOLERANCE = 1e-3
# Of a model in integers: a value that lies between two steps may take either.
STEP_TOLERANCE = 5e-2


def RunWarm(worker, name, runs, single, workers):
    """Latencies of `runs` runs and the answer; short runs of one worker come after one that only
    refills the caches."""
    extra = 1 if single < 0.05 and workers == 1 else 0
    time.sleep(SETTLE_SECONDS)
    answer = worker.Ask(f"run {name} {runs + extra}")
    return answer.pop("seconds")[extra:], answer


def MeasureCell(workers, setup, seconds, errors):
    """{key: result}: every worker in turn, ROUNDS times."""
    name, results, runs, single = f"b{setup.batch}", {}, {}, {}
    for worker in workers:
        try:
            first = worker.Ask(f"run {name} 1")["seconds"][0]
            single[worker.key] = worker.Ask(f"run {name} 1")["seconds"][0]
        except RuntimeError as error:
            errors[worker.key] = str(error)
            print(f"  {worker.key}: {error}", file=sys.stderr)
            continue
        # A sample of the limit is four executions of each product, less what is not in it.
        cost = single[worker.key] * (4 if worker.key.startswith("limit") else 1)
        runs[worker.key] = max(1, round(seconds / ROUNDS / max(cost, 1e-6)))
        results[worker.key] = {"first_run_seconds": first, "rounds": [], "rates": [],
                               **worker.facts}
    alive = [w for w in workers if w.key in results]
    # Slow models get fewer rounds, never fewer than two.
    slowest = max((single[w.key] for w in alive), default=0)
    rounds = max(2, min(ROUNDS, math.ceil(2 * seconds / slowest))) if slowest else 0
    for turn in range(rounds):
        for worker in alive[turn % len(alive):] + alive[:turn % len(alive)]:
            latencies, answer = RunWarm(worker, name, runs[worker.key], single[worker.key],
                                        setup.workers)
            result = results[worker.key]
            result["rounds"].append(latencies)
            if setup.workers > 1:
                result["rates"].append(setup.batch * len(latencies) / answer["wall_seconds"])
            answer.pop("wall_seconds", None)
            result.update(answer)
    for result in results.values():
        Summarize(result, setup)
    return results


def Summarize(result, setup):
    flat = np.array([s for r in result["rounds"] for s in r])
    for key, q in (("p10", 10), ("p50", 50), ("p90", 90)):
        result[f"{key}_seconds"] = float(np.percentile(flat, q))
    result["min_seconds"] = float(flat.min())
    result["runs"] = len(flat)
    rates = result.pop("rates")
    # One worker's rate is that of its typical run; several share what the wall clock says.
    result["items_per_second"] = (float(np.median(rates)) if rates
                                  else setup.batch / max(result["p50_seconds"], 1e-12))
    result["round_medians_seconds"] = [float(np.median(r)) for r in result.pop("rounds")]


def CompareOutputs(workers, batch, work, errors, tolerance=FP32_TOLERANCE):
    """{key: SQNR in dB against ONNX Runtime fp32}; wrong fp32 answers land in `errors`."""
    outputs = {}
    for worker in workers:
        if worker.key.startswith("limit"):
            continue
        file = work / "output.bin"
        try:
            worker.Ask(f"output b{batch} {file}")
            outputs[worker.key] = np.fromfile(file, np.float32).astype(np.float64)
        except RuntimeError as error:
            errors[worker.key] = str(error)
    expected = outputs.get("ort fp32")
    if expected is None:
        return {}
    sqnr = {}
    for key, output in outputs.items():
        if output.shape != expected.shape:
            errors[key] = f"{output.size} output elements, want {expected.size}"
            continue
        noise = float(np.sum((expected - output) ** 2))
        sqnr[key] = 10 * math.log10(max(float(np.sum(expected ** 2)), 1e-300) / max(noise, 1e-300))
        worst = float(np.max(np.abs(expected - output))) / max(float(np.max(np.abs(expected))), 1e-30)
        if key == "halftone fp32" and not worst <= tolerance:
            errors[key] = f"wrong output: differs by {worst:.2e} x max|expected|"
            print(f"  {key}: {errors[key]}", file=sys.stderr)
    return sqnr
