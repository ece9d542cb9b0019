"""Fetching from the Hugging Face Hub: files of one commit, each checked against the hash in its config.json."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import HubError, WeightsError
from ganzoo.files import JSON_LIMIT
from ganzoo.store.client import HubUnreachable, calling, hub_client, patiently
from ganzoo.store.manifest import (
    CONFIG,
    DISCRIMINATOR,
    FILES,
    MODEL,
    ModelConfig,
    check_file,
    read_config,
)
from ganzoo.store.models import Role, outline
from ganzoo.zoo.plugins import registry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger("ganzoo")

PREFIX = "hf-hub:"
HEADER_LIMIT = 16 << 20
"""The largest header of a safetensors file, in bytes."""
SIDE_FILE_LIMIT = 64 << 20
"""The largest file besides the weights, in bytes."""


def fetch(
    repo_id: str, revision: str | None = None, names: Iterable[str] = FILES, *, local_files_only: bool = False
) -> Path:
    """Fetch files of a model folder into the client's cache, all of one commit, each checked.

    A pinned commit (40 hex digits) that is cached needs no request.

    Args:
        repo_id: "ORG/NAME".
        revision: a branch, tag or commit; None: the main branch.
        names: the files to fetch; those that the model was published without are left out.
        local_files_only: make no request; a file that is not cached is an error.

    Returns:
        The snapshot's folder.

    Raises:
        HubError: there is no such repository or no access to it, the Hub cannot be reached, or a file is not cached and
            no request may be made.
        WeightsError: the repository holds no ganzoo model, or a file is damaged or too large.
    """
    from huggingface_hub import constants

    names = [name for name in names if name != CONFIG]
    pinned = revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
    offline = local_files_only or constants.HF_HUB_OFFLINE
    if pinned or offline:
        if cached := _cached(repo_id, revision, names):
            return cached
        if offline:
            raise HubError(
                f"{repo_id}@{revision or 'main'} is not whole in the cache, and requests are turned off: run "
                f"`ganzoo pull {PREFIX}{repo_id}` with a connection first"
            )
    api = hub_client()
    try:
        with calling(repo_id, "fetch"):
            info = patiently(lambda: api.model_info(repo_id, revision=revision, files_metadata=True))
    except HubUnreachable as error:
        if cached := _cached(repo_id, revision, names):
            logger.warning("%s; using the cached commit %s of %s", error, cached.name, repo_id)
            return cached
        raise HubError(f"{error}, and {repo_id}@{revision or 'main'} is not in the cache") from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    commit = info.sha or ""
    folder = _fetch_config(api, repo_id, commit, sizes)
    config = read_config(folder)
    for name in names:
        if name in config.files:
            _fetch_checked(api, repo_id, commit, folder, name, sizes.get(name), config)
    if not pinned:
        _remember_branch(repo_id, folder, revision or "main", commit)
    return folder


def _fetch_config(api: "HfApi", repo_id: str, commit: str, sizes: dict[str, int | None]) -> Path:
    """The snapshot's folder, with config.json in it."""
    if CONFIG not in sizes:
        pickles = sorted(name for name in sizes if Path(name).suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        hint = f"; it holds {pickles[0]!r}, see `ganzoo import`" if pickles else ""
        raise WeightsError(f"{repo_id} is not a ganzoo model: it has no {CONFIG}{hint}")
    size = sizes[CONFIG] or 0
    if size > JSON_LIMIT:
        raise WeightsError(f"{repo_id}: {CONFIG} has {size:,} bytes, more than {JSON_LIMIT:,}: refused")
    return _download(api, repo_id, commit, CONFIG).parent


def _fetch_checked(
    api: "HfApi", repo_id: str, commit: str, folder: Path, name: str, announced: int | None, config: ModelConfig
) -> None:
    """Fetch one file, and a second time if its bytes differ from its hash. A damaged file is deleted."""
    size = config.files[name]["size"]
    least, most = _size_range(name, config)
    if announced != size or not least <= size <= most:
        raise WeightsError(
            f"{repo_id}: the Hub lists {name} with {announced} bytes, {CONFIG} with {size:,}, and {least:,} to "
            f"{most:,} would fit: it is not fetched. Ask its owner to publish it again"
        )
    path = _download(api, repo_id, commit, name)
    try:
        check_file(folder, name, config.files[name])
    except WeightsError:
        _download(api, repo_id, commit, name, force=True)
        try:
            check_file(folder, name, config.files[name])
        except WeightsError as error:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise WeightsError(
                f"{repo_id}: {name} came twice with bytes that differ from its hash: ask its owner to publish it again"
            ) from error


def _size_range(name: str, config: ModelConfig) -> tuple[int, int]:
    """The fewest and the most bytes that a file of this model can have. Weights may be in fp16."""
    if name not in (MODEL, DISCRIMINATOR) or config.architecture not in registry().architectures:
        return 0, SIDE_FILE_LIMIT
    role: Role = "generator" if name == MODEL else "discriminator"
    tensors = outline(config.architecture, role, getattr(config, role), CONFIG).values()
    least = sum(t.numel() * (2 if t.is_floating_point() else t.element_size()) for t in tensors)
    return least, HEADER_LIMIT + sum(t.numel() * t.element_size() for t in tensors)


def _remember_branch(repo_id: str, folder: Path, revision: str, commit: str) -> None:
    """Record the commit of a branch or tag in the cache. Downloads by commit do not, and it is needed offline."""
    reference = folder.parent.parent / "refs" / revision
    with calling(repo_id, "cache"):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")


def fetch_file(repo_id: str, name: str) -> Path:
    """Fetch one file from the main branch of a model repository. A cached one needs no request.

    Args:
        repo_id: "ORG/NAME".
        name: the file's name in the repository.

    Returns:
        The path of the file in the cache.

    Raises:
        HubError: there is no such file or no access to it, the Hub cannot be reached, or the file is not cached and no
            request may be made.
    """
    from huggingface_hub import try_to_load_from_cache

    api = hub_client()
    with calling(repo_id, "fetch"):
        cached = try_to_load_from_cache(repo_id, name)
        if isinstance(cached, str):
            return Path(cached)
        patiently(lambda: api.model_info(repo_id))  # fails at once where `_download` would keep trying
    return _download(api, repo_id, None, name)


def _cached(repo_id: str, revision: str | None, names: Iterable[str]) -> Path | None:
    """The folder of the cached snapshot, if it holds all these files with their hashes."""
    from huggingface_hub import try_to_load_from_cache

    with calling(repo_id, "look for"):
        path = try_to_load_from_cache(repo_id, CONFIG, revision=revision)
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    try:
        config = read_config(folder)
        for name in names:
            if name in config.files:
                check_file(folder, name, config.files[name])
    except WeightsError:
        return None
    return folder


def _download(api: "HfApi", repo_id: str, commit: str | None, name: str, force: bool = False) -> Path:
    with calling(repo_id, "fetch"):
        path = patiently(lambda: api.hf_hub_download(repo_id, name, revision=commit, force_download=force))
    return Path(path)


def search(organisation: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The models on the Hub with the tag "ganzoo", the most downloaded first. Anyone may use that tag.

    Args:
        organisation: only the models of this user or organisation.
        limit: the largest number of models.

    Returns:
        "id", "commit", "author", "license" and "downloads" of each.

    Raises:
        HubError: the Hub cannot be reached.
    """
    api = hub_client()
    with calling("the Hub", "search"):
        models = patiently(
            lambda: list(
                api.list_models(filter="ganzoo", author=organisation, sort="downloads", limit=limit, full=True)
            )
        )
    entries = []
    for model in models:
        licenses = [tag.removeprefix("license:") for tag in model.tags or [] if tag.startswith("license:")]
        facts = {"id": model.id, "commit": model.sha, "author": model.author, "license": "".join(licenses[:1])}
        entries.append({**facts, "downloads": model.downloads})
    return entries
