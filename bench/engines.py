"""Engines: each is a process of its own, pinned to its cores, that answers lines with JSON."""
import collections
import json
import os
import pathlib
import subprocess
import sys

import workloads

HERE = pathlib.Path(__file__).resolve().parent

# `workers` threads that run the model at once, each with a team of `threads`; a run has `batch` rows.
Setup = collections.namedtuple("Setup", "threads workers batch")

OURS_FLOAT = ["fp32", "bf16", "fp16"]
OURS_STATIC, OURS_DYNAMIC = "int8/per-channel/static", "int8/per-channel/dynamic"
LIMITS = ["fp32", "bf16", "int8"]


class Worker:
    def __init__(self, key, command, cores, log):
        self.key, self.log = key, log
        with open(log, "w", encoding="utf-8") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        self.facts = None

    def Read(self):
        line = self.process.stdout.readline()
        if not line:
            lines = pathlib.Path(self.log).read_text().strip().splitlines() or ["no message"]
            raise RuntimeError(f"exited with {self.process.wait()}: {lines[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def Ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.Read()

    def Close(self):
        self.process.stdin.close()
        self.process.wait()


def Program(build, name):
    program = pathlib.Path(build) / "bench" / name
    if not program.exists():
        sys.exit(f"bench: {program} is not built")
    return program


def Engines(args, path, graph, inputs):
    """{key: command without --threads}. Dynamic int8 only where matmuls dominate; a model that is
    quantized already has no variants, "fp32" runs it as it is."""
    quantized = workloads.IsQuantized(graph)
    files = [word for flag in inputs.values() for word in ("--inputs", flag)]
    dynamic = workloads.MatMulShare(graph) > 0.5 and not quantized
    specs = args.specs or [*OURS_FLOAT, OURS_STATIC, *([OURS_DYNAMIC] if dynamic else [])]
    peers = ["fp32", "static", *(["dynamic"] if dynamic else [])]
    if quantized:
        specs = peers = ["fp32"]
    ours = Program(args.build, "halftone_bench")
    engines = {f"halftone {spec}": [ours, path, "--serve", "--spec", spec, *files]
               for spec in specs}
    worker = [sys.executable, "-B", HERE / "ort_worker.py", path, "--cache",
              args.work / "models" / "ort", *files]
    for spec in peers:
        engines[f"ort {spec}"] = [*worker, "--spec", spec]
    limit = Program(args.build, "limit_bench")
    for spec in ["int8"] if quantized else LIMITS:
        engines[f"limit {spec}"] = [limit, path, "--serve", "--spec", spec, *files]
    return engines


def Start(engines, threads, workers, work, errors):
    """Starts every engine, one after the other; those that fail land in `errors`."""
    cores = sorted(os.sched_getaffinity(0))[:threads * workers]
    alive = []
    for key, command in engines.items():
        if key.startswith("limit") and workers > 1:
            continue
        log = work / "log" / (key.replace("/", "-").replace(" ", "-") + ".txt")
        log.parent.mkdir(parents=True, exist_ok=True)
        if key.startswith("ort") and "fp32" not in key:
            # Quantizing happens in a process of its own: its memory is not the engine's.
            with open(log, "w", encoding="utf-8") as file:
                subprocess.run([*command, "--prepare"], check=False, stderr=file)
        flags = ["--threads", str(threads)]
        if not key.startswith("limit"):
            flags += ["--workers", str(workers)]
        worker = Worker(key, [*command, *flags], cores, log)
        try:
            worker.facts = worker.Read()
            alive.append(worker)
        except RuntimeError as error:
            errors[key] = str(error)
            print(f"  {key}: {error}", file=sys.stderr)
    return alive
