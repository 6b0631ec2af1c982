#!/usr/bin/env python3
"""Halftone's main job on real input: quantize a trained model five ways, classify 400 images with each, compare.

usage: demo.py --build FOLDER      (./dev demo builds first and then calls this)

Starts a server with its defaults on free ports. Everything goes through the `halftone` command line client; every
number is measured in this run. Exit code 1 when a variant fails or loses more than 2 points of accuracy.
"""
import argparse
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
sys.path.insert(0, str(DIGITS))
import prepare  # noqa: E402

BASE = "fp32"
SPECS = ["fp16", "bf16", "int8/per-tensor/static", "int8/per-channel/static", "int8/per-channel/dynamic"]
MODEL = "digits"
ROUNDS = 5             # over the test split, variants taking turns, so that a busy machine is unfair to none
MAX_ACCURACY_LOSS = 0.02
START_SECONDS = 60     # within which the server must answer
METRICS = ["halftone_requests_total", "halftone_request_duration_seconds_count", "halftone_variant_memory_bytes",
           "halftone_quantize_duration_seconds_sum", "halftone_cache_events_total"]


class Failure(Exception):
    """Ends the demo with a message."""


class Client:
    """The `halftone` program."""

    def __init__(self, program, address):
        self.command = [str(program), "--server", address, "--json"]

    def __call__(self, *arguments):
        """Runs one command line and returns its JSON; progress goes to the terminal."""
        result = subprocess.run([*self.command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
        if result.returncode != 0:
            raise Failure(f"`halftone {' '.join(map(str, arguments))}` failed with exit code {result.returncode}")
        return json.loads(result.stdout)


@contextlib.contextmanager
def running_server(program, folder):
    """Starts the server with its defaults on free ports; yields (gRPC port, metrics port)."""
    ports = folder / "ports.json"
    log = folder / "server.log"
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen([str(program), "--port=0", "--metrics_port=0", f"--ports_file={ports}",
                                    f"--store={folder / 'store'}"], stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ports.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"halftone-server did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        chosen = json.loads(ports.read_text(encoding="utf-8"))
        yield chosen["grpc"], chosen["metrics"]
        if process.poll() is not None:
            raise Failure(f"halftone-server ended with {process.returncode}:\n{log.read_text(encoding='utf-8')}")
    finally:
        stop(process)


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        process.terminate()  # a second signal cuts the drain delay short
        process.wait(timeout=60)


def sqnr_db(reference, outputs):
    """Signal to quantization noise ratio in dB over all outputs; infinite when bit-equal."""
    noise = numpy.sum((reference.astype(numpy.float64) - outputs) ** 2)
    signal = numpy.sum(reference.astype(numpy.float64) ** 2)
    return numpy.inf if noise == 0 else 10 * numpy.log10(signal / noise)


def measure(client, folder, test_images):
    """Classifies the test split with every variant, one image per request. Returns {spec: (logits, latencies)}."""
    logits, latencies = {}, {spec: [] for spec in [BASE, *SPECS]}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}: {len(latencies)} variants x the test split", flush=True)
        for spec in latencies:
            output, times = folder / "logits.npy", folder / "seconds.npy"
            answer = client("infer", MODEL, "--variant", spec, "--input", f"image={test_images}", "--each-row",
                            "--warmup", 20, "--output", output, "--latencies", times)
            if answer["spec_text"] != spec:
                raise Failure(f"asked for {spec}, {answer['spec_text']} answered")
            result = numpy.load(output)
            if spec in logits and not numpy.array_equal(logits[spec], result):
                raise Failure(f"{spec}: the same images gave other answers in round {number + 1}")
            logits[spec] = result
            latencies[spec].append(numpy.load(times))
    return {spec: (logits[spec], numpy.concatenate(latencies[spec])) for spec in logits}


def scrape(port):
    """The samples that Prometheus would get, as text lines."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return [line for line in response.read().decode().splitlines() if line and not line.startswith("#")]


def resident_bytes(metrics, spec):
    """Weights, packed weights and arenas of a loaded variant, from the server's metrics."""
    found = [line for line in metrics if line.startswith("halftone_variant_memory_bytes{")
             and f'model="{MODEL}"' in line and f'variant="{spec}"' in line]
    if not found:
        raise Failure(f"{spec} answered and yet the server exports no memory for it")
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def compare(client, metrics, measured, labels):
    """One row of figures per variant."""
    reference, base_seconds = measured[BASE]
    rows = []
    for spec, (outputs, seconds) in measured.items():
        predicted = outputs.argmax(axis=1)
        rows.append({
            "variant": spec,
            "disk": client("show", MODEL, spec)["disk_bytes"],
            "resident": resident_bytes(metrics, spec),
            "accuracy": float(numpy.mean(predicted == labels)),
            "agreement": float(numpy.mean(predicted == reference.argmax(axis=1))),
            "sqnr": sqnr_db(reference, outputs),
            "p50": float(numpy.percentile(seconds, 50)),
            "p99": float(numpy.percentile(seconds, 99)),
            "speed": float(numpy.percentile(base_seconds, 50) / numpy.percentile(seconds, 50)),
        })
    return rows


def print_table(rows):
    columns = [
        ("variant", lambda r: r["variant"]),
        ("on disk", lambda r: f"{r['disk'] / 1e6:.2f} MB"),
        ("resident", lambda r: f"{r['resident'] / 1e6:.2f} MB"),
        ("accuracy", lambda r: f"{r['accuracy']:.2%}"),
        ("agreement", lambda r: f"{r['agreement']:.2%}"),
        ("SQNR", lambda r: "exact" if numpy.isinf(r["sqnr"]) else f"{r['sqnr']:.1f} dB"),
        ("p50", lambda r: f"{r['p50'] * 1e3:.3f} ms"),
        ("p99", lambda r: f"{r['p99'] * 1e3:.3f} ms"),
        ("speed", lambda r: f"{r['speed']:.2f}x"),
    ]
    cells = [[title for title, _ in columns]] + [[text(row) for _, text in columns] for row in rows]
    widths = [max(len(line[c]) for line in cells) for c in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) if c == 0 else cell.rjust(width)
                        for c, (cell, width) in enumerate(zip(line, widths))).rstrip())


def print_metrics(metrics):
    for name in METRICS:
        found = [line for line in metrics if line.startswith((name + "{", name + " "))]
        if not found:
            raise Failure(f"the server does not export {name}")
        # A series per variant and status: two lines of each metric tell what it is like.
        print("\n".join(sorted(found, key=lambda line: "Infer" not in line)[:2]))
    print(f"({len(metrics)} samples in all)")


def print_by_hand():
    print(f"""
The same by hand, in two terminals (the server listens on 8001, its metrics are on http://localhost:8002/metrics):
  ./dev serve
  python3 examples/digits/prepare.py build/digits
  ./dev cli upload {MODEL} examples/digits/model.onnx
  ./dev cli calibrate {MODEL} build/digits/calib.npy
  ./dev cli quantize {MODEL} {SPECS[3]}
  ./dev cli infer {MODEL} --variant {SPECS[3]} --input build/digits/test.npy --each-row --output logits.npy
  ./dev cli report {MODEL} {SPECS[3]}
  ./dev cli export {MODEL} {SPECS[3]} -o exported
  curl -s localhost:8002/metrics | grep halftone_""")


def check(rows):
    """What makes the demo fail."""
    base = rows[0]["accuracy"]
    worst = [f"{row['variant']} {row['accuracy']:.2%}" for row in rows if base - row["accuracy"] > MAX_ACCURACY_LOSS]
    if worst:
        raise Failure(f"fp32 classifies {base:.2%} right, more than 2 points below it: {', '.join(worst)}")


def demo(build, folder):
    inputs = prepare.prepare(folder)
    labels = numpy.load(DIGITS / "test_labels.npy")
    server, cli = build / "server" / "halftone-server", build / "client" / "halftone"
    for program in (server, cli):
        if not program.exists():
            raise Failure(f"{program} does not exist: ./dev build makes it")
    with running_server(server, folder) as (port, metrics_port):
        client = Client(cli, f"127.0.0.1:{port}")
        health = client("health")
        print(f"{health['name']} {health['version']}: gRPC on port {port}, metrics on {metrics_port}", flush=True)
        client("upload", MODEL, DIGITS / "model.onnx")
        client("calibrate", MODEL, f"image={inputs['calib']}")
        for spec in SPECS:
            built = client("quantize", MODEL, spec)["report"]
            print(f"  {spec}: built in {built['build_time']:.2f} s", flush=True)
        measured = measure(client, folder, inputs["test"])
        metrics = scrape(metrics_port)
        rows = compare(client, metrics, measured, labels)
        print(f"\n{len(labels)} test images, one per request over gRPC, {ROUNDS} times with each variant; "
              f"speed is p50 against {BASE}:\n")
        print_table(rows)
        print(f"\nFrom the metrics on port {metrics_port}:\n")
        print_metrics(metrics)
        print_by_hand()
        check(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="folder with the built programs")
    build = parser.parse_args().build.resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="halftone-demo-"))
    try:
        demo(build, folder)
    except Failure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
