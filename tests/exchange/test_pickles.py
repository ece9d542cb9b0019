"""Pickles that would run code, that lie about sizes or that never end: each is refused in one line, and nothing ran."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict

import pytest
import torch

import nvidia
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.pickles import MOST_STEPS, Record, read_pickle
from ganzoo.exchange.records import NETWORK, networks

CANARY = "canary"
TOUCH = f"open('{CANARY}', 'w').close()"


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


class Outer:
    """A persistent object with code in its source, and a hostile member in its state."""

    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        record = nvidia.Persistent("Generator", {}, {}, {"synthesis": self.inner})
        record.source = TOUCH
        return record.__reduce__()


def nested(thing, zipped):
    """A file of torch.save with a hostile object, as bytes."""
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def text(value):
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


def program(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


STORAGE = name("torch", "FloatStorage")
LOAD = name("torch.storage", "_load_from_bytes")
EXECUTING = {
    "os.system": Call(os.system, f"touch {CANARY}"),
    "subprocess": Call(subprocess.call, ["touch", CANARY]),
    "eval": Call(eval, TOUCH),
    "exec": Call(exec, TOUCH),
    "compile": Call(compile, TOUCH, "x", "exec"),
    "import": Call(__import__, "this"),
    "getattr": Call(getattr, "", "upper"),
    "open": Call(open, CANARY, "w"),
    "torch.load": Call(torch.load, CANARY),
    "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {CANARY}"))),
    "in a network's state": Outer(Call(os.system, f"touch {CANARY}")),
    "state of a dictionary": Call(OrderedDict, state={"__class__": Call(eval, TOUCH)}),
    "as a key": {Call(str, "x"): 1},
    "builtins": Call(print, CANARY),
}
PROGRAMS = {
    "nested load": program(LOAD, b"B", struct.pack("<I", 5), b"cos\nx", b"\x85R"),
    "a string is called": program(text("os.system"), text("x"), b"\x85R"),
    "a storage is called": program(STORAGE, text("x"), b"\x85R"),
    "old instance": b"(" + b"S'touch'\nios\nsystem\n.",
    "old object": b"(cos\nsystem\nS'touch'\no.",
    "extension": program(b"\x82\x01"),
    "persistent id": program(text("x"), b"Q"),
    "old persistent id": b"P1\n.",
    "name from a memo": program(text("os"), b"\x94", text("system"), b"\x94", b"00h\x00h\x01\x93", text("x"), b"\x85R"),
    "a name that is no text": program(b"NN\x93"),
    "unhashable key": program(b"}", b"]", b"Ns"),
    "a tuple of a million as a key": program(b"}", b")" + b"\x85" * 900_000, b"Ns"),
    "a number of 100,000 digits as a key": program(b"}", b"\x8b", struct.pack("<i", 50_000), b"\x7f" * 50_000, b"Ns"),
    "state of a list": program(b"]}b"),
    "items of a tuple": program(b")NNs"),
    "no stop": b"\x80\x04N",
    "nothing on the stack": program(b""),
    "two values": program(b"NN"),
    "unknown memo": program(b"h\x05"),
    "frame without an end": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "claims an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "claims a string of 3 GB": b"\x80\x04X" + struct.pack("<I", 3 * 2**30) + b"x.",
    "steps without end": b"\x80\x04" + b"N0" * (MOST_STEPS // 2 + 1) + b".",
    "memo at the end of the world": b"\x80\x04Nr\xff\xff\xff\xff" + b"N.",
}


def refused(path):
    began = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 600
    assert time.perf_counter() - began < 30
    assert not os.path.exists(CANARY)
    return message


@pytest.mark.parametrize("suffix", ["pkl", "pt", "bin"])
@pytest.mark.parametrize("kind", EXECUTING)
def test_nothing_runs(workplace, kind, suffix):
    path = workplace / f"g.{suffix}"
    message = refused(nvidia.dump({"G_ema": EXECUTING[kind]}, path))
    if kind == "os.system":
        assert "(posix.system); it was not executed" in message
    for zipped in (True, False):
        path.write_bytes(nested({"g": EXECUTING[kind]}, zipped) if kind != "in a network's state" else b"x")
        refused(path)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_that_no_checkpoint_needs(workplace, kind):
    path = workplace / "g.pkl"
    path.write_bytes(PROGRAMS[kind])
    refused(path)


def storage_file(
    count=4, content=b"\0" * 16, key="0", kind="storage", storage=STORAGE, view=b"N", size=(4,), stride=(1,)
):
    """torch's older format with one tensor, whose parts may lie."""
    identifier = b"(" + text(kind) + storage + text(key) + text("cpu") + number(count) + view + b"tQ"
    sizes = b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride)) + b"t"
    tensor = name("torch._utils", "_rebuild_tensor_v2") + b"(" + identifier + number(0) + sizes + b"\x89NtR"
    tree = program(b"}", text("g.weight"), tensor, b"s")
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + tree + pickle.dumps(["0"], 2) + struct.pack("<q", count) + content


LIES = {
    "claims a terabyte": {"count": 2**38},
    "claims a negative size": {"count": -1},
    "is shorter than its tensors": {"content": b"\0" * 8},
    "is no storage": {"kind": "module"},
    "another storage": {"key": "1"},
    "a view of a view": {"view": b"]"},
    "a name for a storage": {"storage": name("collections", "OrderedDict")},
    "a tensor outside": {"size": (5,)},
    "a tensor that repeats": {"size": (10**12,), "stride": (0,)},
    "a negative stride": {"size": (2,), "stride": (-1,)},
    "more sizes than strides": {"size": (2, 2)},
    "a huge product": {"size": (2**40, 2**40), "stride": (0, 0)},
}


def test_the_file_that_they_change(workplace):
    (workplace / "g.pt").write_bytes(storage_file(content=struct.pack("<4f", 1, 2, 3, 4)))
    (tensor,) = read_checkpoint(workplace / "g.pt").tensors.values()
    assert tensor.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_sizes(workplace, lie):
    (workplace / "g.pt").write_bytes(storage_file(**LIES[lie]))
    refused(workplace / "g.pt")


@pytest.mark.parametrize("lie", ["deflated", "two pickles", "no pickle", "no storage", "big-endian", "short storage"])
def test_archives_that_lie(workplace, lie):
    torch.save({"g": {"weight": torch.zeros(1000)}}, workplace / "whole.pt")
    with zipfile.ZipFile(workplace / "whole.pt") as whole:
        members = {info.filename: whole.read(info) for info in whole.infolist()}
    folder = next(iter(members)).partition("/")[0]
    if lie == "two pickles":
        members["other/data.pkl"] = members[f"{folder}/data.pkl"]
    elif lie == "no pickle":
        del members[f"{folder}/data.pkl"]
    elif lie == "no storage":
        del members[f"{folder}/data/0"]
    elif lie == "big-endian":
        members[f"{folder}/byteorder"] = b"big"
    elif lie == "short storage":
        members[f"{folder}/data/0"] = b"\0" * 10
    kind = zipfile.ZIP_DEFLATED if lie == "deflated" else zipfile.ZIP_STORED
    with zipfile.ZipFile(workplace / "g.pt", "w", kind) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    refused(workplace / "g.pt")


def test_damaged_bytes(workplace):
    """Whatever byte is changed, or wherever the file ends, it is read or refused."""
    torch.save({"g": {"weight": torch.arange(9.0)}}, workplace / "whole.pt", _use_new_zipfile_serialization=False)
    nvidia.dump({"G_ema": nvidia.Persistent("G", {}, {"weight": torch.ones(2)})}, workplace / "whole.pkl")
    torch.save({"g": {"weight": torch.arange(9.0)}}, workplace / "zipped.pt")
    for whole in ("whole.pt", "whole.pkl", "zipped.pt"):
        content = (workplace / whole).read_bytes()
        path = workplace / "g.pt"
        for i in range(0, len(content), max(1, len(content) // 400)):
            for changed in (content[:i], content[:i] + bytes([content[i] ^ 0x55]) + content[i + 1 :]):
                path.write_bytes(changed)
                with contextlib.suppress(WeightsError):
                    read_checkpoint(path)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("value", [torch.ones(3), [torch.ones(3)], 5, None, "text"], ids=type)
def test_pickles_of_something_else(workplace, value, protocol):
    (workplace / "g.pkl").write_bytes(pickle.dumps(value, protocol))
    assert "no generator's state dict" in refused(workplace / "g.pkl")


def test_tensors_in_the_place_of_numbers(workplace):
    """Comparing a tensor with a number gives a tensor."""
    three = pickle.dumps(torch.ones(3), 4)
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    (workplace / "g.pt").write_bytes(head + three + three + three)
    refused(workplace / "g.pt")


def test_an_encrypted_archive(workplace):
    torch.save({"g": {"weight": torch.zeros(3)}}, workplace / "g.pt")
    content = bytearray((workplace / "g.pt").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag in each header of a member
        at = content.find(mark)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(mark, at + 4)
    (workplace / "g.pt").write_bytes(content)
    assert "encrypted" in refused(workplace / "g.pt")


def test_a_network_that_holds_itself():
    state = {"_parameters": {}, "_modules": {}}
    record = Record(NETWORK, ({"class_name": "Generator", "state": state},))
    state["_modules"]["self"] = record
    with pytest.raises(WeightsError, match="too many modules within each other"):
        networks({"G_ema": record})


def test_memory_is_bounded_by_the_file(workplace):
    """The largest claims do not touch memory. It is measured in a process of its own."""
    claims = {k: v for k, v in PROGRAMS.items() if "claims" in k or "memo" in k}
    claims |= {k: storage_file(**v) for k, v in LIES.items()}
    laughs = b"]\x94" + b"".join(b"](" + b"h" + bytes([i]) + b"2" * 20 + b"e\x94" for i in range(60))
    claims["a billion laughs"] = program(laughs)
    for i, content in enumerate(claims.values()):
        (workplace / f"{i}.pt").write_bytes(content)
    script = f"""
import resource
from pathlib import Path
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for i in range({len(claims)}):
    try:
        read_checkpoint(Path(f"{{i}}.pt"))
    except WeightsError:
        continue
    raise SystemExit(f"file {{i}} was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr
    kilobytes = int(output.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 200_000


def test_plain_values_of_all_protocols():
    value = {"a": [1, -2, 2**40, 2.5, True, None, "text", b"bytes"], "b": ((), (1,), (1, 2, 3, 4)), 3: {}}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(value, protocol)
        names = {"_codecs.encode": lambda text, encoding: text.encode(encoding)}
        assert read_pickle(io.BytesIO(content), names) == value
    assert read_pickle(io.BytesIO(pickle.dumps({1, 2})), {}).name == "set"
