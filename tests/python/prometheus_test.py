#!/usr/bin/env python3
"""A real Prometheus scrapes a server under traffic and answers what operators ask."""
import argparse
import json
import math
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse

import numpy as np

import halftone_server

CONFIG = """
global:
  scrape_interval: 250ms
  scrape_timeout: 250ms
scrape_configs:
  - job_name: halftone
    static_configs:
      - targets: ["{target}"]
"""


def FreePort():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    def __init__(self, target):
        self.folder = tempfile.TemporaryDirectory(prefix="halftone-prometheus-")
        folder = pathlib.Path(self.folder.name)
        (folder / "prometheus.yml").write_text(CONFIG.format(target=target))
        self.log = folder / "log.txt"
        self.address = f"127.0.0.1:{FreePort()}"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self.address}"],
            stdout=open(self.log, "w"), stderr=subprocess.STDOUT)

    def Query(self, promql):
        """[(labels, value)] now; None while Prometheus is not up. A bad query raises."""
        if self.process.poll() is not None:
            raise RuntimeError(f"prometheus exited: {self.log.read_text()[-2000:]}")
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
        try:
            answer = json.loads(halftone_server.Fetch(url))
        except urllib.error.HTTPError as error:
            if error.code == 503:  # starting
                return None
            raise ValueError(f"{promql}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return None
        return [(r["metric"], float(r["value"][1])) for r in answer["data"]["result"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def CheckLatency(prometheus, drive):
    """p99 by variant, between the smallest bucket and the largest."""
    promql = ("histogram_quantile(0.99, sum by (le, model, variant) "
              "(rate(halftone_request_duration_seconds_bucket[1m])))")

    def Answer():
        drive()
        values = {labels["variant"]: value for labels, value in prometheus.Query(promql) or []
                  if math.isfinite(value)}
        return values if len(values) >= 2 else None

    p99 = halftone_server.WaitFor("p99 of both variants", Answer)
    assert set(p99) == {"fp32", "int8/per-channel/dynamic"}, p99
    for variant, seconds in p99.items():
        assert 0 < seconds <= 10, f"{variant}: p99 of {seconds} s"
        print(f"p99 of {variant}: {1e3 * seconds:.3f} ms")


def CheckResidentBytes(prometheus, server):
    """What Prometheus stored is what the endpoint says; nothing runs that could change it."""
    direct = {(labels["variant"], labels["kind"]): value for labels, value
              in server.Metrics()["halftone_variant_memory_bytes"]}

    def Stored():
        answer = prometheus.Query("halftone_variant_memory_bytes") or []
        stored = {(labels["variant"], labels["kind"]): value for labels, value in answer}
        return stored if stored == direct else None

    halftone_server.WaitFor(f"resident bytes {direct}", Stored)
    (_, total), = prometheus.Query("sum(halftone_variant_memory_bytes)")
    # 16*64 + 64*8 weights, in f32 and again in int8.
    assert total >= 1536 * 5, f"{total} resident bytes for two variants of 1536 weights"
    (_, process), = prometheus.Query("process_resident_memory_bytes")
    assert process > total
    print(f"resident: {total:.0f} bytes in variants, {process:.0f} in the process")


def CheckDashboardQueries(prometheus):
    """Every query of the dashboard is valid PromQL, and those that must have data have some."""
    empty = []
    for title, query in halftone_server.DashboardQueries():
        query = query.replace("$model", ".*").replace("$variant", ".*")
        query = query.replace("$__rate_interval", "1m")
        assert not re.search(r"\$\w", query), f"'{title}': unknown variable in {query}"
        if not prometheus.Query(query):
            empty.append(title)
    # No call failed, so there is no code to break the errors down by.
    assert set(empty) <= {"Error ratio by model and code"}, empty


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    if not shutil.which("prometheus"):
        halftone_server.Skip("prometheus is missing")
    with (halftone_server.Server(args.build) as server,
          Prometheus(server.metrics_target) as prometheus):
        client = halftone_server.ServeSmallModel(server)
        x = np.ones((1, 16), np.float32)

        def Drive():
            for spec in ("fp32", "int8/per-channel/dynamic"):
                client.Infer("small", spec, x)

        CheckLatency(prometheus, Drive)
        CheckResidentBytes(prometheus, server)
        CheckDashboardQueries(prometheus)


if __name__ == "__main__":
    sys.exit(main())
