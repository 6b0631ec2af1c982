#!/usr/bin/env python3
"""Eight clients ask mixed variants at once: no error, every answer right, no growth of resident memory.

usage: soak_test.py --build FOLDER [--seconds 60]
"""
import argparse
import pathlib
import random
import re
import sys
import threading
import time

import numpy as np

from halftone_server import ROOT, Client, Server

CLIENTS = 8
IMAGES = 32
SPECS = ["fp32", "fp16", "bf16", "int8/per-tensor/static", "int8/per-channel/static",
         "int8/per-channel/dynamic", "int8/per-channel/weight-only"]
WARM_UP = 0.3           # share of the time after which memory must not grow any more
MAX_GROWTH = 16 << 20   # bytes: what the allocator may still move


def ResidentBytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) << 10


def Calibrate(client, model, images):
    header = client.quantization_pb.CalibrationHeader(model=model)
    parts = [client.quantization_pb.UploadCalibrationRequest(header=header)]
    for image in images:
        sample = client.quantization_pb.CalibrationSample(inputs=[client.Tensor(image)])
        parts.append(client.quantization_pb.UploadCalibrationRequest(sample=sample))
    client.quantization.UploadCalibration(iter(parts), timeout=60)


class Worker(threading.Thread):
    def __init__(self, client, want, images, until, seed):
        super().__init__()
        self.client, self.want, self.images, self.until = client, want, images, until
        self.random = random.Random(seed)
        self.answers, self.problems = 0, []

    def run(self):
        while time.monotonic() < self.until and not self.problems:
            spec, i = self.random.choice(SPECS), self.random.randrange(IMAGES)
            try:
                got = self.client.Infer("digits", spec, self.images[i])
                if not np.array_equal(got, self.want[spec][i]):
                    self.problems.append(f"{spec}, image {i}: got {got}, want {self.want[spec][i]}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"{spec}, image {i}: {error}")
            self.answers += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    digits = ROOT / "examples" / "digits"
    scale = np.float32(1 / 255)
    images = [(u8[None, None] * scale).astype(np.float32)
              for u8 in np.load(digits / "test_images.npy")[:IMAGES]]
    calibration = [(u8[None, None] * scale).astype(np.float32)
                   for u8 in np.load(digits / "calib_images.npy")[:64]]
    with Server(arguments.build) as server:
        client = Client(server.target)
        client.Upload("digits", (digits / "model.onnx").read_bytes())
        Calibrate(client, "digits", calibration)
        for spec in SPECS[1:]:
            client.Quantize("digits", spec)
        want = {spec: [client.Infer("digits", spec, x) for x in images] for spec in SPECS}
        begin = time.monotonic()
        until = begin + arguments.seconds
        workers = [Worker(client, want, images, until, seed) for seed in range(CLIENTS)]
        for worker in workers:
            worker.start()
        time.sleep(arguments.seconds * WARM_UP)
        warm = ResidentBytes(server.process.pid)
        for worker in workers:
            worker.join()
        end = ResidentBytes(server.process.pid)
        failed = [v for v in server.Metrics()["halftone_requests_total"]
                  if v[0]["code"] != "OK" and v[1] > 0]
    problems = [p for worker in workers for p in worker.problems]
    answers = sum(worker.answers for worker in workers)
    print(f"{answers} answers from {CLIENTS} clients in {arguments.seconds:.0f} s, resident "
          f"{warm >> 20} MiB after warm-up, {end >> 20} MiB at the end")
    if problems or failed or not answers:
        sys.exit("\n".join(problems + [str(f) for f in failed]) or "no answers")
    if end - warm > MAX_GROWTH:
        sys.exit(f"resident memory grew by {end - warm} bytes")


if __name__ == "__main__":
    main()
