"""Writes digits.npz from MNIST's IDX files: `python make_digits.py FOLDER/MNIST/raw`."""

import sys
from pathlib import Path

import numpy as np

COUNT = 10_000


def main(raw: Path) -> None:
    images = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    target = Path(__file__).with_name("digits.npz")
    np.savez_compressed(target, images=images[:COUNT], labels=labels[:COUNT])
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
