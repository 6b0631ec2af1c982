#!/usr/bin/env python3
"""What docs/operations.md names exists: metrics in the server's output, settings in its help."""
import argparse
import pathlib
import re
import subprocess

from halftone_server import ROOT, ServeSmallModel, Server


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.M)
    names = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}
    metrics = {n for n in names if n.startswith(("halftone_", "process_"))}
    settings = names - metrics
    assert len(metrics) > 10 and len(settings) > 5, names
    with Server(build) as server:
        ServeSmallModel(server)
        exported = {re.sub(r"_(bucket|sum|count)$", "", name) for name in server.Metrics()}
    # What has not happened yet, or was not asked for, has no series.
    missing = metrics - exported - {"halftone_rejected_total", "halftone_live_sample_bytes"}
    assert not missing, f"docs/operations.md names metrics that the server does not export: {missing}"
    run = subprocess.run([build / "server" / "halftone-server", "--help"], capture_output=True,
                         text=True, check=True)
    missing = {s for s in settings if f"--{s}" not in run.stdout}
    assert not missing, f"docs/operations.md names settings that --help does not: {missing}"
    print(f"{len(metrics)} metrics and {len(settings)} settings exist")


if __name__ == "__main__":
    main()
