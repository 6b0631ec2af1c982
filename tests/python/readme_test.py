#!/usr/bin/env python3
"""Runs the README's tour, word for word, against a server of this build: usage: readme_test.py --build FOLDER"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

from halftone_server import ROOT, Server


def Tour():
    blocks = re.findall(r"```sh tour\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    if len(lines) < 5:
        sys.exit("README.md: no tour found")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build.resolve()
    with Server(build) as server:
        environment = dict(os.environ, HALFTONE_SERVER=server.target,
                           PATH=f"{build / 'client'}:{os.environ['PATH']}")
        for line in Tour():
            # The tour has the default ports, and ./dev enters the userland that this test is in.
            command = line.replace("localhost:8002", server.metrics_target)
            command = command.replace("./dev shell ", "")
            print(f"$ {line}", flush=True)
            run = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT,
                                 env=environment, capture_output=True, text=True, timeout=300,
                                 check=False)
            print(run.stdout[-1500:], run.stderr[-1500:], flush=True)
            if run.returncode != 0:
                sys.exit(f"README.md: `{line}` failed with exit code {run.returncode}")
            if not run.stdout.strip():
                sys.exit(f"README.md: `{line}` printed nothing")
    print("the README's tour works")


if __name__ == "__main__":
    main()
