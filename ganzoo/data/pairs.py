"""Pairing the images of two sources by their names."""

import logging
import os
import re
from collections import Counter

from ganzoo.data.source import Source
from ganzoo.errors import DataError

logger = logging.getLogger("ganzoo")

SHOWN = 3
"""Names of images without a partner that a message lists."""


def pair(targets: Source, inputs: Source) -> tuple[Source, Source]:
    """The images that both sources have, in the order of the targets. Those without a partner are left out and told.

    Two images belong together if their paths agree, without the suffix and without the folders that all images of the
    same source share; or, if that holds for none, their file names without the suffix.

    Raises:
        DataError: none agree, or a name that both have is not unique in one of them.
    """
    for key_of in (_paths, _stems):
        keys, others = key_of(targets.names), key_of(inputs.names)
        common = set(keys) & set(others)
        if common:
            break
    else:
        raise DataError(
            f"no image of {targets.what} has the name of one in {inputs.what}, as {_name(targets, 0)} and "
            f"{_name(inputs, 0)}: images of a pair have the same name, and --set data.paired=false takes unpaired ones"
        )
    for source, names in ((targets, keys), (inputs, others)):
        if twice := [key for key, count in Counter(names).items() if count > 1 and key in common]:
            raise DataError(f"{source.what} has several images called {twice[0]!r}, and each may be in one pair only")
        if alone := [i for i, key in enumerate(names) if key not in common]:
            first = ", ".join(_name(source, i) for i in alone[:SHOWN])
            more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
            logger.warning(
                "left out %d of %d images of %s without a partner: %s",
                len(alone),
                len(names),
                source.what,
                first + more,
            )
    numbers = {key: i for i, key in enumerate(others)}
    chosen = [i for i, key in enumerate(keys) if key in common]
    return targets.take(chosen), inputs.take([numbers[keys[i]] for i in chosen])


def _name(source: Source, i: int) -> str:
    return os.path.basename(source.names[i])


def _stems(names: list[str]) -> list[str]:
    return [os.path.splitext(os.path.basename(name))[0] for name in names]


def _paths(names: list[str]) -> list[str]:
    """The paths below the folders that all share, without their suffixes."""
    parts = [re.split(r"[/\\]", os.path.splitext(name)[0]) for name in names]
    depth = next((i for i, same in enumerate(zip(*(p[:-1] for p in parts), strict=False)) if len(set(same)) > 1), None)
    shared = min(len(p) for p in parts) - 1 if depth is None else depth
    return ["/".join(p[shared:]) for p in parts]
