"""Decoding of images on all cores.

It runs in child processes that execute this module, which receive encoded bytes and return pixels over pipes. Python
holds its lock for most of the time that a small JPEG takes, so two threads are slower than one (for 32x32 on two
cores, 130 µs per image in one thread, 150 in two, 65 in two processes; large photos gain the same from either).
multiprocessing would either fork a process with torch's threads or run the user's script again. The module imports no
torch, so that a child starts in a quarter of a second.
"""

import contextlib
import io
import json
import lzma
import os
import queue
import subprocess
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ganzoo.data.source import Source
from ganzoo.errors import DataError

Pixels = npt.NDArray[np.uint8]

SMALL = 2 << 20
"""Bytes of encoded images below which this process decodes them itself, in well under a second, without a cache: a
folder of a few pictures should leave nothing behind. Also the least work, in bytes, for which one more child pays."""
CHUNK = 1 << 20
"""Bytes, encoded or decoded, that a child gets at a time."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    Image.DecompressionBombError,
    NotImplementedError,
    EOFError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors that Pillow and zipfile raise for a damaged or encrypted file."""


def summarise(skipped: dict[int, str]) -> str:
    """The first five messages, and the number of further ones."""
    first = "; ".join(list(skipped.values())[:5])
    return f"{first}; and {len(skipped) - 5} more" if len(skipped) > 5 else first


def decode_all(source: Source, shape: tuple[int, ...], skipped: dict[int, str]) -> Generator[Pixels, None, None]:
    """Decode all images, in order.

    Args:
        source: the encoded images.
        shape: (N, C, H, W) of the pixels.
        skipped: gets an entry for each image that cannot be read: a message, by index.

    Yields:
        uint8 pixels (n, C, H, W), without the images that cannot be read.

    Raises:
        DataError: more than 1 % of the images cannot be read, or a child process ended early.
    """
    n, channels, size, _ = shape
    workers = min(_cores(), source.size // SMALL)
    step = max(1, min(256, CHUNK // max(channels * size * size, source.size // n)))

    def block(start: int) -> tuple[int, Pixels, dict[int, str]]:
        contents, read_errors = [], {}
        for i in range(start, min(start + step, n)):
            try:
                contents.append(source.read(i))
            except UNREADABLE as error:
                contents.append(b"")
                read_errors[i] = str(error)
        decode = idle.get()
        try:
            rows, failures = decode(contents, size, channels, source.half)
        finally:
            idle.put(decode)
        messages = {start + i: read_errors.get(start + i, message) for i, message in failures.items()}
        return len(contents), rows, messages

    idle: queue.SimpleQueue[Callable[[list[bytes], int, int, str], tuple[Pixels, dict[int, str]]]] = queue.SimpleQueue()
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
        raise DataError(f"{len(skipped)} of {n} images in {source.what} cannot be read: {summarise(skipped)}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _in_order(pool: ThreadPoolExecutor, function: Callable[[int], Any], tasks: range, ahead: int) -> Iterator[Any]:
    """As `pool.map`, but at most `ahead` results ahead of the reader, to bound the memory."""
    waiting: deque[Future[Any]] = deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Process:
    """A child process that runs `decode_some`, until its pipe is closed or this process ends."""

    def __init__(self) -> None:
        # In a session of its own, it does not get the signal of Ctrl-C: closing its pipe ends it.
        try:
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "ganzoo.data.decode"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )
        except OSError as error:
            raise DataError(f"the process that decodes images cannot be started: {error}") from error

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.communicate()

    def __call__(
        self, contents: list[bytes], size: int, channels: int, half: str = ""
    ) -> tuple[Pixels, dict[int, str]]:
        try:
            _send(self.child.stdin, [size, channels, half], contents)
            failures, (rows,) = _receive(self.child.stdout)
        except (OSError, EOFError) as error:
            code = self.child.wait()
            raise DataError(
                f"a process that decodes images ended early (code {code}): check that there is memory left"
            ) from error
        pixels = np.frombuffer(rows, np.uint8).reshape(-1, channels, size, size)
        return pixels, {int(i): message for i, message in failures.items()}


def _send(pipe: Any, header: Any, contents: list[Any]) -> None:
    pipe.write(json.dumps([header, [len(content) for content in contents]]).encode() + b"\n")
    for content in contents:
        pipe.write(content)
    pipe.flush()


def _receive(pipe: Any) -> tuple[Any, list[bytes]]:
    """Receive a message of `_send`; an EOFError if the pipe ends before it does."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header, lengths = json.loads(line)
    contents = [pipe.read(length) for length in lengths]
    if [len(content) for content in contents] != lengths:
        raise EOFError
    return header, contents


def _serve() -> None:
    """The main function of a child process."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            (size, channels, half), contents = _receive(sys.stdin.buffer)
            rows, failures = decode_some(contents, size, channels, half)
            _send(sys.stdout.buffer, failures, [rows.tobytes()])


def read_images(paths: Sequence[Path], size: int, channels: int) -> Pixels:
    """The pixels (n, channels, size, size) of files with images, each decoded as `decode_one` does.

    Raises:
        DataError: a file cannot be read as an image.
    """
    rows = []
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is no file: name pictures")
        try:
            rows.append(decode_one(path.read_bytes(), size, channels))
        except UNREADABLE as error:
            raise DataError(f"{path} cannot be read as an image: {error}") from error
    return np.stack(rows)


def decode_some(contents: list[bytes], size: int, channels: int, half: str = "") -> tuple[Pixels, dict[int, str]]:
    """The pixels (n, channels, size, size) of the images that can be read, and a message, by index, for each other."""
    rows, failures = [], {}
    for i, content in enumerate(contents):
        try:
            rows.append(decode_one(content, size, channels, half))
        except UNREADABLE as error:
            failures[i] = str(error)
    return np.array(rows, np.uint8).reshape(len(rows), channels, size, size), failures


def decode_one(content: bytes, size: int, channels: int, half: str = "") -> Pixels:
    """Decode one image, or its left or right half, to (channels, size, size).

    It is turned upright as its EXIF data says, put on white where transparent, cropped to its centre and resized.
    """
    image = open_image(content, channels, 2 * size)
    if half:
        middle = image.width // 2
        image = image.crop((0, 0, middle, image.height) if half == "left" else (middle, 0, 2 * middle, image.height))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def open_image(content: bytes, channels: int, least: int | None = None) -> Image.Image:
    """Decode one image in grey or colour, turned upright as its EXIF data says, and on white where it is transparent.

    Args:
        content: the encoded image.
        channels: 1 for grey, 3 for colour.
        least: pixels of the shorter side that a large JPEG must keep, which may be halved as it is decoded; None: it
            keeps all of them.
    """
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:  # whose own message shows an object of Python's
        raise ValueError("it is no image of a known format") from error
    with opened:
        if least is not None:
            # libjpeg can halve a large JPEG as it decodes it, here down to twice the size: 3 to 6 times faster, with a
            # mean difference of a quarter of a grey level from resizing the whole image.
            opened.draft(None, (least, least))
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits per pixel: Pillow would clip large values instead of scaling
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if channels == 1 else "RGB")


if __name__ == "__main__":
    _serve()
