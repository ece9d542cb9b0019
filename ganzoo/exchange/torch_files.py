"""Reading files of torch.save, and pickles that hold such files, without running any code in them.

torch.save writes a ZIP archive with one pickle and a member for the bytes of each storage, or, before torch 1.6 and for
the tensors inside other pickles, several pickles one after the other that the bytes follow.
"""

import io
import mmap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ganzoo.errors import WeightsError
from ganzoo.exchange.pickles import Record, Steps, read_pickle, shorten
from ganzoo.exchange.records import NETWORK

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of torch's older format."""
PROTOCOL = 1001
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
RECORDS = (
    "argparse.Namespace",
    "builtins.complex", "builtins.set", "__builtin__.complex", "__builtin__.set",
    "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar",
    "numpy.dtype", "numpy.ndarray",
    "torch.Size", "torch.device", "torch.serialization._get_layout", *(f"{dtype}" for dtype in DTYPES.values()),
    "torch._utils._rebuild_meta_tensor_no_storage", "torch._utils._rebuild_sparse_tensor",
    NETWORK,
)  # fmt: skip
"""Names whose objects are kept as records: settings, what lies in states beside tensors, and NVIDIA's networks."""
VIEW = "torch._utils._rebuild_tensor_v2"


def read_file(path: Path) -> Any:
    """The content of a file of torch.save, or of a pickle that holds tensors.

    Returns:
        Numbers, strings, lists, tuples, dictionaries and tensors on the CPU, and a `Record` for a set, an
        argparse.Namespace, a number of numpy or a network of NVIDIA's `persistence`.

    Raises:
        WeightsError: the file holds anything else, is damaged, or claims more than its size. The message begins with a
            verb, for the name of the file to be put before it.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = path.stat().st_size
        if not size:
            raise WeightsError("is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            reading = _Reading(size)
            return reading.archive(file) if whole[:4] == b"PK\x03\x04" else reading.pickles(whole)  # type: ignore[arg-type]


class _Reading:
    """What is left of the bounds of one file: bytes of tensors, and steps of pickles."""

    def __init__(self, size: int) -> None:
        self.bytes_left = size
        self.steps = Steps()
        storages = {f"torch.{name}": _uncallable for name in DTYPES}
        self.names: dict[str, Callable[..., Any] | None] = {
            **dict.fromkeys(RECORDS),
            **storages,
            "_codecs.encode": _encode,  # bytes, in the second protocol of pickles
            "collections.Counter": _dictionary,  # of learning rate schedules
            "collections.OrderedDict": _dictionary,
            "dnnlib.tflib.network.Network": _tensorflow,
            "dnnlib.util.EasyDict": _dictionary,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            VIEW: _view,
            "torch.storage._load_from_bytes": self.nested,
        }

    def archive(self, file: IO[bytes]) -> Any:
        """The content of a ZIP archive."""
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename: info for info in archive.infolist()}
                pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
                if len(pickles) != 1:
                    raise WeightsError(f"is a ZIP archive with {len(pickles)} files data.pkl: torch.save writes one")
                folder = pickles[0].removesuffix("data.pkl")

                def member(name: str) -> bytes:
                    info = members.get(folder + name)
                    if info is None or info.compress_type != zipfile.ZIP_STORED:
                        raise WeightsError(f"lacks {shorten(name)}, or was compressed by another program than torch")
                    self._take(info.file_size)
                    return archive.read(info)

                if folder + "byteorder" in members and member("byteorder") != b"little":
                    raise WeightsError("was written on a big-endian machine: save it anew on another")

                storages: dict[str, Tensor] = {}

                def persistent(identifier: Any) -> Tensor:
                    dtype, key, count = _storage(identifier)
                    if key not in storages:
                        content = bytearray(member(f"data/{key}"))
                        if len(content) < count * dtype.itemsize:
                            raise WeightsError(f"has {len(content)} bytes for {count:,} numbers of {dtype}")
                        storages[key] = torch.empty(0, dtype=dtype)
                        if count:  # frombuffer takes no empty buffer
                            storages[key] = torch.frombuffer(content, dtype=dtype, count=count)
                    return storages[key]

                return read_pickle(io.BytesIO(member("data.pkl")), self.names, persistent, self.steps)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:  # RuntimeError: encrypted
            raise WeightsError(f"is a damaged ZIP archive ({' '.join(str(error).split())})") from error

    def pickles(self, file: IO[bytes]) -> Any:
        """The content of torch's older format, or of a single pickle."""
        first = read_pickle(file, self.names, None, self.steps)
        if not isinstance(first, int) or first != MAGIC:
            return first
        protocol, system = (read_pickle(file, self.names, None, self.steps) for _ in range(2))
        known = isinstance(protocol, int) and protocol == PROTOCOL and isinstance(system, dict)
        if not known or system.get("little_endian") is not True:
            raise WeightsError("is of a format of torch that is not known here: save it anew with a recent torch")
        storages: dict[str, Tensor] = {}

        def persistent(identifier: Any) -> Tensor:
            dtype, key, count = _storage(identifier)
            if key not in storages:
                self._take(count * dtype.itemsize)
                storages[key] = torch.empty(count, dtype=dtype)
            return storages[key]

        content = read_pickle(file, self.names, persistent, self.steps)
        keys = read_pickle(file, self.names, None, self.steps)
        for key in keys if isinstance(keys, list) else ():
            storage = storages.get(key) if isinstance(key, str) else None
            count = int.from_bytes(file.read(8), "little")
            if storage is None or count != len(storage):
                raise WeightsError("is damaged: the sizes of its storages do not agree")
            numbers = bytearray(file.read(count * storage.dtype.itemsize))
            if len(numbers) < count * storage.dtype.itemsize:
                raise WeightsError("is truncated")
            if count:
                storage.copy_(torch.frombuffer(numbers, dtype=storage.dtype))
            del storages[key]
        if storages:
            raise WeightsError("is truncated: it lacks the numbers of some tensors")
        return content

    def nested(self, content: Any) -> Any:
        """The content of a file of torch.save whose bytes lie in another pickle."""
        if not isinstance(content, bytes) or content[:4] == b"PK\x03\x04":
            raise WeightsError("has tensors in a format that is not known here")
        return self.pickles(io.BytesIO(content))

    def _take(self, size: int) -> None:
        self.bytes_left -= size
        if size < 0 or self.bytes_left < 0:
            raise WeightsError("claims tensors that are larger than the file")


def _dictionary(items: Any = None) -> dict[Any, Any]:
    """A dictionary. Unless items are given, later steps of the pickle fill it."""
    if items is not None and not isinstance(items, dict):
        raise WeightsError("builds a dictionary of something else")
    return dict(items or {})


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise WeightsError("encodes something else than bytes")
    return text.encode("latin1")


def _tensorflow(*_: Any) -> None:
    raise WeightsError(
        "holds a TensorFlow network (dnnlib.tflib); it was not executed. legacy.py of NVIDIA's stylegan2-ada-pytorch "
        "converts it to a pickle that can be imported"
    )


def _uncallable(*_: Any) -> None:
    raise WeightsError("calls a storage of torch; it was not executed")


def _storage(identifier: Any) -> tuple[torch.dtype, str, int]:
    """The dtype, the key and the count of numbers of a storage, from its persistent id."""
    kind, dtype, key, _, count, *view = identifier
    name = getattr(dtype, "name", "").removeprefix("torch.")
    valid = kind == "storage" and name in DTYPES and isinstance(key, str) and isinstance(count, int) and count >= 0
    if not valid or view not in ([], [None]):
        raise WeightsError("has a persistent id that is no storage of numbers")
    return DTYPES[name], key, count


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor | Record:
    """A tensor of that size in a storage; a record if it is larger than its storage, in which it would repeat."""
    if not isinstance(storage, Tensor) or len(size) != len(stride):
        raise WeightsError("has a tensor without a storage")
    numbers = (offset, *size, *stride)
    if not all(isinstance(number, int) and 0 <= number < 2**48 for number in numbers):
        raise WeightsError("has a tensor whose sizes are no whole numbers from 0")
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and last >= len(storage):
        raise WeightsError(f"has a tensor {shorten(str(size))} outside of its storage")
    if count > len(storage):
        return Record(VIEW, (tuple(size),))
    return torch.as_strided(storage, size, stride, offset)
