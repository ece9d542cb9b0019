"""Damage to files, chosen by a seeded generator: bytes, the structure of JSON, headers of safetensors, other kinds of
files in their place."""

import copy
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 10**9, 2**63, 10**400, -(10**18), 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "../../canary", "/etc/passwd", "\x00", "\ud800", "é" * 300, "9" * 5000, "__class__", [], {}, [[]], [None],
    [1, 2], {"a": 1}, "nan", "1e999", "step-0000002", "F64", "dcgan", "torch.nn:Linear",
)  # fmt: skip
"""Values that take the place of those in a JSON file."""


def damage(rng: random.Random, path: Path) -> None:
    """Change a file in one to three ways."""
    ways: list[Callable[[random.Random, Path], None]] = [_bytes, _bytes, _bytes, _replace]
    if path.suffix in (".json", ".jsonl"):
        ways += [_structure] * 8
    if path.suffix == ".safetensors":
        ways += [_header] * 6
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not path.is_file() or path.is_symlink():
            return
        rng.choice(ways)(rng, path)


def _bytes(rng: random.Random, path: Path) -> None:
    """Flip, cut, repeat, insert or zero some bytes."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content) + 1)
    kind, length = rng.randrange(6), rng.choice((1, 2, 8, 100, 4096))
    if kind == 0 and content:
        for _ in range(length if length < 100 else 3):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        content[at:at] = content[at : at + length]
    elif kind == 3:
        content[at:at] = rng.randbytes(length)
    elif kind == 4:
        content[at : at + length] = bytes(len(content[at : at + length]))
    else:
        del content[at : at + length]
    path.write_bytes(content)


def _replace(rng: random.Random, path: Path) -> None:
    """Something else in the place of the file."""
    kind = rng.randrange(7)
    path.unlink()
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.symlink("/dev/zero", path)
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.write_bytes(b"")
    elif kind == 4:
        os.symlink(path.name, path)
    elif kind == 5:
        path.write_bytes(b"[" * 200_000 if path.suffix == ".json" else b"\xff" * 1000)


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as its container and the key or index there."""
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    places = [(tree, key) for key, _ in pairs]
    for _, value in pairs:
        places += _nodes(value)
    return places


def odd(rng: random.Random, tree: Any) -> Any:
    """A JSON value with one place changed: another value there, none, a second name, or the value deep in lists."""
    places = _nodes(tree)
    value = copy.deepcopy(rng.choice(ODD))  # which the next change may change
    if not places or rng.random() < 0.05:
        return value
    container, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(("x", "", "é", "__init__", str(key) + "s"))] = container[key]
    elif kind == 2:
        for _ in range(rng.choice((1, 30, 400))):  # twice the last is still less than json can write
            container[key] = [container[key]]
    else:
        container[key] = value
    return tree


def _structure(rng: random.Random, path: Path) -> None:
    """Change one place of a JSON file, or of a line of a JSON-lines file."""
    try:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(odd(rng, json.loads(lines[at])))
        text = "\n".join(lines) + "\n"
    except (ValueError, RecursionError):
        return
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _header(rng: random.Random, path: Path) -> None:
    """Change the header of a safetensors file: a shape, a type, an offset, a name, or its own length."""
    content = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
    except (ValueError, struct.error):
        return
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if not names:
        return
    entry, kind = header[rng.choice(names)], rng.randrange(6)
    if not isinstance(entry, dict):
        return
    if kind == 0:
        entry["shape"] = rng.choice(([], [0], [32768, 32768], [10**9, 0], [16, 700], [-1], [2**62, 4], "x"))
    elif kind == 1:
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "X", None))
    elif kind == 2:
        entry["data_offsets"] = rng.choice(([0, 0], [0, 2**62], [5, 1], [-4, 4], [0, 4], "x", [1]))
    elif kind == 3:
        header = odd(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    claimed = len(text) if kind != 4 else rng.choice((0, 1, 2**63, 2**31, len(content) * 2))
    path.write_bytes(struct.pack("<Q", claimed) + text + content[8 + length :])
