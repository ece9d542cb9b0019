"""Encoded images to pixels, on all cores.

Processes that run this very module do the decoding: encoded bytes in, pixels out, over pipes. Python holds its lock
for most of the time that a small JPEG takes, so two threads are slower than one (32x32 on two cores: 130 µs an image
in one thread, 150 in two, 65 in two processes; large photos gain the same from either). They are plain child processes
because multiprocessing would either fork a process that has torch's threads or run a person's script again. Imports no
torch, so that they start in a quarter of a second.
"""

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ganzoo.data.source import Source
from ganzoo.errors import DataError

Pixels = npt.NDArray[np.uint8]

SMALL = 2 << 20
"""Bytes of encoded images that this process decodes by itself, in well under a second, and keeps in no cache: a folder
of a few pictures should leave nothing behind. Also what a further process has to get to be worth starting."""
CHUNK = 1 << 20
"""Bytes, encoded or decoded, that a process gets at a time."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    Image.DecompressionBombError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Pillow and zipfile raise for a damaged (or encrypted) file."""


def few(skipped: dict[int, str]) -> str:
    """The first five of what cannot be read, and how many more."""
    shown = "; ".join(list(skipped.values())[:5])
    return f"{shown}; and {len(skipped) - 5} more" if len(skipped) > 5 else shown


def decode_all(source: Source, shape: tuple[int, ...], skipped: dict[int, str]) -> Generator[Pixels, None, None]:
    """Blocks of decoded images in order. Those that cannot be read are left out, and named in `skipped`.

    Raises:
        DataError: more than 1 % cannot be read, or a process that decodes ended.
    """
    n, channels, size, _ = shape
    workers = min(_cores(), source.size // SMALL)
    step = max(1, min(256, CHUNK // max(channels * size * size, source.size // n)))

    def block(start: int) -> tuple[int, Pixels, dict[int, str]]:
        contents, unread = [], {}
        for i in range(start, min(start + step, n)):
            try:
                contents.append(source.read(i))
            except UNREADABLE as error:
                contents.append(b"")
                unread[i] = str(error)
        decode = idle.get()
        try:
            rows, failures = decode(contents, size, channels)
        finally:
            idle.put(decode)
        return len(contents), rows, {start + i: unread.get(start + i, message) for i, message in failures.items()}

    idle: queue.SimpleQueue[Callable[[list[bytes], int, int], tuple[Pixels, dict[int, str]]]] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        blocks: Iterator[tuple[int, Pixels, dict[int, str]]]
        advance = None
        if source.size >= SMALL:
            from ganzoo.progress import counting  # not at the top: the child processes need no rich

            advance = stack.enter_context(counting(n, "images"))
        if workers < 2:
            idle.put(decode_some)
            blocks = map(block, range(0, n, step))
        else:
            for _ in range(workers):
                idle.put(stack.enter_context(Process()))
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            blocks = _in_order(pool, block, range(0, n, step), 3 * workers)
        for count, rows, failures in blocks:
            skipped |= {i: f"{source.names[i]}: {message}" for i, message in failures.items()}
            if advance:
                advance(count)
            yield rows
    if len(skipped) > n / 100:
        raise DataError(f"{len(skipped)} of {n} images in {source.what} cannot be read: {few(skipped)}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _in_order(pool: ThreadPoolExecutor, function: Callable[[int], Any], tasks: range, ahead: int) -> Iterator[Any]:
    """What `pool.map` gives, at most `ahead` results early: memory stays small however slow the reader is."""
    waiting: deque[Future[Any]] = deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Process:
    """A child process that does `decode_some`, until it is closed or this process is gone."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C is for this process, which ends the child by closing its pipe.
        try:
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "ganzoo.data.decode"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )
        except OSError as error:
            raise DataError(f"no process can be started to decode images: {error}") from error

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.communicate()

    def __call__(self, contents: list[bytes], size: int, channels: int) -> tuple[Pixels, dict[int, str]]:
        try:
            _send(self.child.stdin, [size, channels], contents)
            failures, (rows,) = _receive(self.child.stdout)
        except (OSError, EOFError) as error:
            code = self.child.wait()
            raise DataError(
                f"a process that decodes images ended early (code {code}): is there memory left?"
            ) from error
        pixels = np.frombuffer(rows, np.uint8).reshape(-1, channels, size, size)
        return pixels, {int(i): message for i, message in failures.items()}


def _send(pipe: Any, header: Any, contents: list[Any]) -> None:
    pipe.write(json.dumps([header, [len(content) for content in contents]]).encode() + b"\n")
    for content in contents:
        pipe.write(content)
    pipe.flush()


def _receive(pipe: Any) -> tuple[Any, list[bytes]]:
    """What `_send` sent. Raises EOFError if it is not all there."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header, lengths = json.loads(line)
    contents = [pipe.read(length) for length in lengths]
    if [len(content) for content in contents] != lengths:
        raise EOFError
    return header, contents


def _serve() -> None:
    """What a `Process` runs, until its pipe is closed."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            (size, channels), contents = _receive(sys.stdin.buffer)
            rows, failures = decode_some(contents, size, channels)
            _send(sys.stdout.buffer, failures, [rows.tobytes()])


def decode_some(contents: list[bytes], size: int, channels: int) -> tuple[Pixels, dict[int, str]]:
    """Those of the images that can be read (n, channels, size, size), and why the others, by position, cannot."""
    rows, failures = [], {}
    for i, content in enumerate(contents):
        try:
            rows.append(decode_one(content, size, channels))
        except UNREADABLE as error:
            failures[i] = str(error)
    return np.array(rows, np.uint8).reshape(len(rows), channels, size, size), failures


def decode_one(content: bytes, size: int, channels: int) -> Pixels:
    """One image as (channels, size, size): upright, on white where transparent, centre-cropped, resized."""
    with Image.open(io.BytesIO(content)) as opened:
        # libjpeg halves a large JPEG as it decodes, down to no less than twice the size: 3 to 6 times faster, and a
        # quarter of a grey level away on average from resizing it whole.
        opened.draft(None, (2 * size, 2 * size))
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them to 8
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


if __name__ == "__main__":
    _serve()
