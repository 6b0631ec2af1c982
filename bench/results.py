"""What follows from the measured times: ratios, shares of the limit, bars, tables for a terminal."""
import math

from engines import OURS_DYNAMIC, OURS_STATIC

# Key, title, and what it says. All of them: above 1 is good for us.
METRICS = {
    "fp32": "fp32 / ORT fp32",
    "int8": "int8 / ORT best int8",
    "int8_vs_own_fp32": "int8 / own fp32",
    "bf16_vs_ort_fp32": "bf16 / ORT fp32",
    "fp16_vs_own_fp32": "fp16 / own fp32",
    "limit_fp32": "fp32 of limit",
    "limit_bf16": "bf16 of limit",
    "limit_int8": "int8 of limit",
}
MEAN = "geometric mean"  # beside the models in a table of bars

# What issue 5 asks for, by metric and model; OTHER: of every model that is not listed.
OTHER = "every model"
BARS = {
    "generated": {
        "fp32": {"resnet50": 0.97, "bert_base": 1.15, "mobilenet_v2": 1.15, OTHER: 0.95, MEAN: 1.1},
        "int8": {"resnet50": 1.1, "mobilenet_v2": 1.2, "mobilenet_v3_large": 1.3,
                 "efficientnet_b0": 1.3, "bert_base": 1.4, "vit_b_16": 1.5, "mlp": 1.0, MEAN: 1.3},
        "bf16_vs_ort_fp32": {OTHER: 1.6, MEAN: 2.0},
        "fp16_vs_own_fp32": {OTHER: 0.95},
        "int8_vs_own_fp32": {"resnet50": 3.0, "bert_base": 2.5, "vit_b_16": 2.5,
                             "mobilenet_v2": 1.8, "mobilenet_v3_large": 1.8,
                             "efficientnet_b0": 1.8},
        "limit_fp32": {"resnet50": 0.85, "bert_base": 0.85},
        "limit_int8": {"resnet50": 0.85, "bert_base": 0.85},
    },
    "real": {
        "fp32": {OTHER: 0.9, MEAN: 1.2},
        "int8": {OTHER: 0.9, MEAN: 1.2},
    },
}


def Bar(group, metric, model):
    """What is asked for, or None."""
    bars = BARS.get(group, {}).get(metric, {})
    return bars.get(model, bars.get(OTHER) if model != MEAN else None)


def Geomean(values):
    logs = [math.log(v) for v in values if v is not None and v > 0 and math.isfinite(v)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def Ratios(results, statistic, workers=1, quantized=False):
    """By metric. `statistic` is "p50_seconds" or such; several workers compare by their rate. Of a
    model that is quantized already, the one pair of engines is int8."""
    def Seconds(key):
        if key not in results:
            return math.nan
        return results[key][statistic] if workers == 1 else 1 / results[key]["items_per_second"]

    def Best(*keys):
        present = [(Seconds(k), k) for k in keys if k in results]
        return min(present, default=(math.nan, None))

    def OfLimit(precision, ours):
        limit = results.get(f"limit {precision}", {})
        return Seconds(f"limit {precision}") / ours if limit.get("skipped") == 0 else math.nan

    if quantized:
        ours, peer = Seconds("halftone fp32"), Seconds("ort fp32")
        return {**dict.fromkeys(METRICS, math.nan), "int8": peer / ours,
                "int8_ours": "as it is", "int8_peer": "as it is",
                "limit_int8": OfLimit("int8", ours)}
    ours, ours_key = Best(f"halftone {OURS_STATIC}", f"halftone {OURS_DYNAMIC}")
    peer, peer_key = Best("ort static", "ort dynamic")
    fp32, ort_fp32 = Seconds("halftone fp32"), Seconds("ort fp32")
    return {
        "fp32": ort_fp32 / fp32,
        "int8": peer / ours, "int8_ours": ours_key, "int8_peer": peer_key,
        "int8_vs_own_fp32": fp32 / ours,
        "bf16_vs_ort_fp32": ort_fp32 / Seconds("halftone bf16"),
        "fp16_vs_own_fp32": fp32 / Seconds("halftone fp16"),
        "limit_fp32": OfLimit("fp32", fp32),
        "limit_bf16": OfLimit("bf16", Seconds("halftone bf16")),
        "limit_int8": OfLimit("int8", ours),
    }


def SetupName(cell):
    if cell["workers"] > 1:
        team = f"{cell['workers']} workers × {cell['threads']} thread{'s'[:cell['threads'] > 1]}"
    else:
        team = f"{cell['threads']} thread{'s'[:cell['threads'] > 1]}"
    return f"{team}, batch {cell['batch']}"


def Split(cells):
    """{(group, name of the setup): cells}, in order of appearance."""
    parts = {}
    for cell in cells:
        parts.setdefault((cell["group"], SetupName(cell)), []).append(cell)
    return parts


def Geomeans(cells):
    """[{"group", "setup", metric: mean of all its models …}]."""
    return [{"group": group, "setup": setup,
             **{m: Geomean([c["ratios"][m] for c in part]) for m in METRICS}}
            for (group, setup), part in Split(cells).items()]


def PrintDetails(cell):
    print(f"\n{cell['model']}, {SetupName(cell)}")
    print(f"  {'engine':<34}{'p10':>9}{'p50':>9}{'p90':>9} ms{'items/s':>10}{'SQNR dB':>9}"
          f"{'RSS MB':>8}{'load s':>8}")
    for key, r in cell["engines"].items():
        sqnr = r.get("sqnr_db")
        print(f"  {key:<34}" +
              "".join(f"{1e3 * r[q + '_seconds']:9.2f}" for q in ("p10", "p50", "p90")) +
              f"   {r['items_per_second']:10.1f}"
              f"{'-' if sqnr is None else format(min(sqnr, 999), '.1f'):>9}"
              f"{r['resident_bytes'] / 1e6:8.0f}{r['load_seconds']:8.2f}")
    for key, error in cell["errors"].items():
        print(f"  {key:<34} FAILED: {error}")


def PrintRatios(cells):
    print("\nratios of medians: the other's time / our time, above 1 we are faster; "
          "and the share of the limit that we reach")
    for (group, setup), part in Split(cells).items():
        print(f"\n  {group}, {setup}")
        print(f"  {'model':<22}" + "".join(f"{title.replace(' / ', '/').replace('ORT best', 'ORT'):>16}"
                                           for title in METRICS.values()) + "  int8: ours vs theirs")
        for cell in part:
            r = cell["ratios"]
            print(f"  {cell['model']:<22}" + "".join(f"{r[k]:16.2f}" for k in METRICS) +
                  f"  {str(r['int8_ours']).rsplit('/', 1)[-1]} vs "
                  f"{str(r['int8_peer']).removeprefix('ort ')}")
        print(f"  {MEAN:<22}" + "".join(
            f"{Geomean([c['ratios'][k] for c in part]):16.2f}" for k in METRICS))
