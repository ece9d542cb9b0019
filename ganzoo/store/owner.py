"""The lock of a run folder, which one process at a time owns."""

import contextlib
import errno
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from ganzoo.errors import CheckpointError

LOCK = ".lock"
LINKABLE = ("checkpoints", "samples", "model", "training.json", "metrics.jsonl", "report.html")
"""What training writes in a run folder, and so must not be a symbolic link to another place."""
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of file systems without locks."""


def check_name(folder: str) -> None:
    """Check that a run folder can be written and read back by this name.

    Raises:
        CheckpointError: it is not UTF-8, or holds a null character.
    """
    shown = folder.encode("utf-8", "backslashreplace").decode()
    if shown != folder or "\0" in folder:
        raise CheckpointError(f"a run cannot be kept in {shown!r}: take a name in UTF-8")


@contextlib.contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Own a run folder that exists. The operating system gives the lock back when the process ends, however it ends.

    File systems without locks, and Windows, have none.

    Raises:
        CheckpointError: another process owns it, or a part of the folder is a symbolic link.
    """
    for name in LINKABLE:
        if (folder / name).is_symlink():
            raise CheckpointError(
                f"{folder / name} is a symbolic link, and training would write where it leads: remove it"
            )
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise CheckpointError(f"{folder / LOCK} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise CheckpointError(
                f"{folder} is in use by {holder}: wait for it or stop it, or train into another --out"
            ) from error
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise CheckpointError(f"{folder / LOCK} cannot be locked: {error.strerror}") from error
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield
    finally:
        os.close(descriptor)
