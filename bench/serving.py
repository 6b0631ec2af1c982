#!/usr/bin/env python3
"""What a loaded variant costs a server: the first answer against later ones, and memory against the metrics.

    ./dev shell python3 bench/serving.py [--models resnet50,bert_base] [--specs fp32,int8/per-channel/weight-only]

Each variant is built by one server and loaded by a fresh one, whose store is a copy of the first one's: nothing else has
run there. "first" and "later" are what the server says it computed for, so queues and loading are not in it.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))
from halftone_server import Client, Server  # noqa: E402
import workloads  # noqa: E402

SPECS = "fp32,fp16,bf16,int8/per-channel/dynamic,int4"
MB = 2 ** 20
RUNS = 15


def Inputs(client, path):
    """One row of zeros for each graph input, as messages."""
    import onnx
    graph = onnx.load(str(path), load_external_data=False).graph
    kinds = {1: ("f4", client.types.DATA_TYPE_FP32), 7: ("i8", client.types.DATA_TYPE_INT64)}
    messages = []
    for value in graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        dtype, kind = kinds[tensor.elem_type]
        messages.append(client.types.Tensor(name=value.name, type=kind, shape=shape,
                                            data=np.zeros(shape, dtype).tobytes()))
    return messages


def Seconds(duration):
    return duration.seconds + duration.nanos * 1e-9


def Resident(server):
    """Bytes in memory: all, and those that are no file's (not libraries, not weights read in place)."""
    status = dict(line.split(":", 1) for line in
                  pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines())
    return np.array([int(status[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon")])


def MemoryMetrics(server, spec):
    """Bytes by kind, as the metrics have them for the variant."""
    return {labels["kind"]: value for labels, value in server.Metrics()["halftone_variant_memory_bytes"]
            if labels["variant"] == spec}


def Build(build, path, specs, store):
    """Uploads and quantizes; the store is left in the folder `store`."""
    with Server(build, f"--store={store}", "--build_threads=2") as server:
        client = Client(server.target)
        client.Upload("m", path.read_bytes())
        for spec in specs:
            if spec != "fp32":
                for _ in client.quantization.Quantize(
                        client.quantization_pb.QuantizeRequest(model="m", spec_text=spec), timeout=900):
                    pass


def Measure(build, path, spec, store, threads):
    """(seconds of the first answer, of later ones, bytes resident and anonymous, bytes by the metrics)."""
    with Server(build, f"--store={store}", "--workers=1", f"--threads_per_worker={threads}") as server:
        client = Client(server.target)
        request = client.inference_pb.InferRequest(
            model="m", variant=client.types.VariantSelector(spec_text=spec), inputs=Inputs(client, path),
            report_timings=True)
        empty = Resident(server)
        answers = [Seconds(client.inference.Infer(request, timeout=900).timings.compute) for _ in range(RUNS)]
        bytes_of = MemoryMetrics(server, spec)
        return answers[0], statistics.median(answers[1:]), Resident(server) - empty, bytes_of


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--models", default="resnet50,mobilenet_v2,bert_base", metavar="A,B")
    parser.add_argument("--specs", default=SPECS, metavar="A,B")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "models")
    args = parser.parse_args()
    specs = args.specs.split(",")
    print("| model | spec | first ms | later ms | ratio | resident MB | weights + packed + arena MB | beyond them MB "
          "| without pages of files |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.models.split(","):
        label, path = workloads.FindModel(name, args.work)
        with tempfile.TemporaryDirectory(prefix="halftone-serving-") as folder:
            Build(args.build, path, specs, folder)
            for spec in specs:
                first, later, (resident, own), metrics = Measure(args.build, path, spec, folder, args.threads)
                counted = sum(metrics.values())
                own_counted = counted - metrics.get("weights", 0)  # which are the file's pages
                print(f"| {label} | {spec} | {first * 1e3:.1f} | {later * 1e3:.1f} | {first / later:.2f} | "
                      f"{resident / MB:.1f} | {counted / MB:.1f} | {(resident - counted) / MB:.1f} | "
                      f"{(own - own_counted) / MB:.1f} |", flush=True)


if __name__ == "__main__":
    main()
