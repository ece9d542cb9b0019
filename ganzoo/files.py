"""Files on disk: writing them whole or not at all, reading JSON that may be hostile, hashing files and the tensors in
them, and the folder of caches."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

JSON_LIMIT = 1 << 20
"""Bytes of a JSON file at most."""
DEPTH_LIMIT = 64
"""Objects and lists within each other in a JSON text, at most."""
DIGITS_LIMIT = 308
"""Digits of a whole number in JSON that stays one: a float holds it too."""


def cache_folder() -> Path:
    """`GANZOO_CACHE`, else `$XDG_CACHE_HOME/ganzoo`, else `~/.cache/ganzoo`. It may not exist yet.

    Raises:
        RuntimeError: neither variable is set and there is no home folder.
    """
    if folder := os.environ.get("GANZOO_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ganzoo"


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder that is to appear whole or not at all.

    When the block ends without an error, what was written there takes the place of `path`; otherwise it is removed
    and `path` stays as it was.

    Args:
        path: the file or folder to write.
        overwrite: replace a folder that is not empty, instead of raising an error.
        durable: flush it to the disk first, so that it survives a power cut.
        shared: other processes may write the same path at the same time, so use a temporary name of this process. A
            killed process leaves such a file behind; the default name is reused by the next attempt.

    Raises:
        OSError: the block raised it, or the result cannot be put into place.
    """
    owner = f".{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{owner}.tmp")
    remove(temporary)
    before = _before(path)
    if before.exists() and not path.exists():  # a process was killed between the two steps of `_swap`
        os.rename(before, path)
    try:
        yield temporary
        if durable:
            _flush(temporary)
        if overwrite and path.is_dir() and any(path.iterdir()):
            _swap(temporary, path)
        else:
            os.replace(temporary, path)
        if durable:
            _fsync(path.parent)
    finally:
        remove(temporary)


def _swap(new: Path, path: Path) -> None:
    """Put the folder `new` in place of a folder that is not empty, which no single system call can do."""
    before = _before(path)
    remove(before)
    os.rename(path, before)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(before, path)
        raise
    remove(before)


def _before(path: Path) -> Path:
    """Where a folder lies while another one takes its place."""
    return path.with_name(f".{path.name}.before")


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _flush(path: Path) -> None:
    """Flush a file, or every file of a folder and the folder itself, to the disk."""
    for file in path.rglob("*") if path.is_dir() else ():
        _fsync(file)
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file durably: `path` holds the old text or the new, never a part of it.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(tensors: Mapping[str, "Tensor"], path: Path) -> None:
    """Write a safetensors file with the permissions of its folder. The library would let only its owner read it.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    from safetensors.torch import save_file

    save_file(dict(tensors), path)
    path.chmod(path.parent.stat().st_mode & 0o666)


def reason(error: Exception) -> str:
    """Why something could not be read or written, without the path that the message names already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def read_json(path: Path, *, pipe: bool = False, **hooks: Any) -> Any:
    """The value in a JSON file that may be hostile: a regular file of at most `JSON_LIMIT` bytes.

    Args:
        path: the file, or a link to it.
        pipe: whether it may be a pipe too, which is waited for.
        hooks: as those of `json.loads`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a folder, a pipe or a device, too large, or `parse_json` refuses its text.
    """
    if path.exists() and not path.is_file() and not (pipe and path.is_fifo()):
        raise ValueError("it is no regular file")
    with open(path, "rb") as file:
        content = file.read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise ValueError(f"it has more than the limit of {JSON_LIMIT:,} bytes")
    return parse_json(content, **hooks)


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """The value of a JSON text that may be hostile. Larger whole numbers than floats hold are infinite, as 1e400 is.

    Args:
        text: the text, or its bytes in UTF-8.
        hooks: as those of `json.loads`.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) <= DIGITS_LIMIT else float(digits)

    try:
        value = json.loads(text, parse_int=whole, **hooks)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return value
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise ValueError(f"it is nested more than {DEPTH_LIMIT} levels deep")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_hash(tensors: Iterable[tuple[str, "Tensor"]]) -> str:
    """SHA-256 over tensors, each preceded by its header, in hexadecimal."""
    import torch

    digest = hashlib.sha256()
    for header, tensor in tensors:
        digest.update(header.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_hash(module: "nn.Module") -> str:
    """SHA-256 over the names, types, shapes and bytes of a module's tensors, in hexadecimal."""
    from ganzoo.devices import to_host

    tensors = to_host(module.state_dict())
    return tensor_hash((f"{name} {tensor.dtype} {tuple(tensor.shape)}\n", tensor) for name, tensor in tensors.items())
