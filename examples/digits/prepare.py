#!/usr/bin/env python3
"""Writes the digits as inputs of the model: usage: prepare.py FOLDER"""
import pathlib
import sys

import numpy

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = {"calib": "calib_images.npy", "test": "test_images.npy"}


def prepare(folder):
    """Writes {calib,test}.npy, float32 [N,1,32,32] in [0, 1], and returns their paths by name."""
    paths = {}
    for name, source in SOURCES.items():
        images = numpy.load(HERE / source)
        paths[name] = pathlib.Path(folder) / f"{name}.npy"
        numpy.save(paths[name], images[:, None].astype(numpy.float32) / numpy.float32(255))
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pathlib.Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    for path in prepare(sys.argv[1]).values():
        print(path)
