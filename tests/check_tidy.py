#!/usr/bin/env python3
"""Runs clang-tidy on every source below core/, with the flags of a build folder.

usage: check_tidy.py BUILD_FOLDER [FILE...]
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1]).resolve()
    wanted = {str(pathlib.Path(f).resolve()) for f in sys.argv[2:]}
    commands = json.loads((build / "compile_commands.json").read_text())
    files = sorted(c["file"] for c in commands if c["file"].startswith(str(ROOT / "core")))
    files = [f for f in files if not wanted or f in wanted]

    def check(file):
        run = subprocess.run(["clang-tidy", "-p", build, "--quiet", file], capture_output=True, text=True, check=False)
        return file, run.returncode, run.stdout

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for file, code, output in pool.map(check, files):
            if code != 0:
                failed += 1
                print(f"{os.path.relpath(file, ROOT)}\n{output}", flush=True)
    print(f"clang-tidy: {len(files) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
