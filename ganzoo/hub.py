"""Publishing and fetching through the Hugging Face Hub, and what a SOURCE means.

The client compares sizes but never contents, retries some calls and not others, and has no timeout on most: so every
file is checked against the hash in its config.json, and calls that the client gives up on at once are repeated here.
"""

import contextlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from ganzoo import weights
from ganzoo.card import card_license, cards_folder, relicense, rename_source
from ganzoo.checkpoint import STATE
from ganzoo.errors import HubError, UnknownNameError, WeightsError, did_you_mean
from ganzoo.plugins import registry
from ganzoo.sampling import load_run
from ganzoo.weights import CARD, CONFIG, CONFIG_LIMIT, DISCRIMINATOR, FILES, MODEL, load_network, read_config

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger("ganzoo")

PREFIX = "hf-hub:"
WAITS = (0.5, 1, 2, 4)
"""Seconds before each repetition of a call that failed for a passing reason."""
LONGEST_WAIT = 30
"""Seconds of a Retry-After that are honoured."""
TIMEOUT = 30
"""Seconds a request may stay without an answer."""
SIDE_FILE_LIMIT = 64 << 20
"""Bytes that a file other than the weights may have."""
UNOPENED = "ganzoo-unopened"
"""Branch that marks a repository whose first push has not come to its end: only such a one is made public later."""
PASSING = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")


# What a SOURCE means


def find(source: str, names: Iterable[str] = (CONFIG, MODEL), *, local_files_only: bool = False) -> Path:
    """The folder that a SOURCE means: a run folder or a model folder, fetched first if it is on the Hub.

    Args:
        source: a path (with a slash or a leading dot), "hf-hub:ORG/NAME[@REVISION]", or a name of registered weights.
        names: the files of a model folder that are needed.
        local_files_only: make no request; what is not cached is an error.

    Raises:
        UnknownNameError: no weights of that name.
        WeightsError: no such folder.
        HubError: it cannot be fetched.
    """
    if source.startswith(PREFIX):
        repo_id, _, revision = source.removeprefix(PREFIX).partition("@")
        return fetch(repo_id, revision or None, names, local_files_only=local_files_only)
    if "/" in source or "\\" in source or source.startswith("."):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise WeightsError(f"there is no folder {source}; a Hub repository is written {PREFIX}ORG/NAME")
        if not any((folder / name).exists() for name in (CONFIG, "training.json", STATE)):
            raise WeightsError(f"{source} is neither a run, a checkpoint nor a model folder: it has no {CONFIG}")
        return folder
    if Path(source).is_dir():
        raise UnknownNameError(f"{source!r} is a word, which names pretrained weights: for the folder write ./{source}")
    known = registry().weights
    if source not in known:
        raise UnknownNameError(f"no pretrained weights are called {source!r}: {did_you_mean(source, known)}")
    entry = known[source]
    if entry.repo_id is not None:
        return fetch(entry.repo_id, entry.revision, names, local_files_only=local_files_only)
    return Path(entry.path or "")


def from_pretrained(source: str, *, revision: str | None = None, local_files_only: bool = False) -> nn.Module:
    """A trained generator, in evaluation mode on the CPU (random weights come from `create`).

    Args:
        source: the name of registered weights ("dcgan.digits"), a run or model folder ("./runs/a"), or
            "hf-hub:ORG/NAME[@REVISION]".
        revision: a branch, tag or commit of a Hub repository; a commit pins what you get.
        local_files_only: make no request.

    Returns:
        The generator, with `.config`; it maps latents (N, z_dim) to images (N, C, H, W) in [-1, 1].

    Raises:
        UnknownNameError, HubError, WeightsError, CheckpointError: not there, not reachable, damaged or not fitting.
    """
    if revision is not None:
        source = f"{source.partition('@')[0]}@{revision}"
    folder = find(str(source), local_files_only=local_files_only)
    return load_network(folder, "generator") if is_model(folder) else load_run(folder)


def is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or not ((folder / "checkpoints").is_dir() or (folder / STATE).is_file())


# Fetching


def fetch(
    repo_id: str, revision: str | None = None, names: Iterable[str] = FILES, *, local_files_only: bool = False
) -> Path:
    """Fetch files of a model folder into the client's cache, all of one commit, each checked.

    A pinned commit (40 hex digits) that is cached is found without a request.

    Args:
        repo_id: "ORG/NAME".
        revision: a branch, tag or commit; None: the main branch.
        names: which files; those that the model was published without are left out.

    Returns:
        The snapshot's folder.

    Raises:
        HubError: not found, no access, not reachable, offline and not cached.
        WeightsError: not a ganzoo model, or a file that is damaged or larger than it may be.
    """
    from huggingface_hub import constants

    wanted = [name for name in names if name != CONFIG]
    pinned = revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
    if pinned or local_files_only or constants.HF_HUB_OFFLINE:
        if cached := _cached(repo_id, revision, wanted):
            return cached
        if not pinned or local_files_only or constants.HF_HUB_OFFLINE:
            raise HubError(f"{repo_id}@{revision or 'main'} is not whole in the cache, and no request may be made: "
                           f"run `ganzoo pull {PREFIX}{repo_id}` with a connection first")  # fmt: skip
    api = _api()
    try:
        with _bounded(), _told(repo_id, "fetch"):
            info = _patiently(lambda: api.model_info(repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT))
    except HubUnreachable as error:
        if cached := _cached(repo_id, revision, wanted):
            logger.warning("%s; using the cached commit %s of %s", error, cached.name, repo_id)
            return cached
        raise HubError(f"{error}, and {repo_id}@{revision or 'main'} is not in the cache") from error
    announced = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    if CONFIG not in announced:
        pickles = sorted(name for name in announced if Path(name).suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        hint = f"; it holds {pickles[0]!r}, see `ganzoo import`" if pickles else ""
        raise WeightsError(f"{repo_id} is not a ganzoo model: it has no {CONFIG}{hint}")
    commit = info.sha or ""
    if (announced[CONFIG] or 0) > CONFIG_LIMIT:
        raise WeightsError(f"{repo_id}: {CONFIG} has {announced[CONFIG]:,} bytes, more than {CONFIG_LIMIT:,}: refused")
    folder = _download(api, repo_id, commit, CONFIG).parent
    config = read_config(folder)
    for name in wanted:
        if name not in config.files:
            continue
        size = config.files[name]["size"]
        limit = SIDE_FILE_LIMIT
        if name in (MODEL, DISCRIMINATOR) and config.architecture in registry().architectures:
            role = "generator" if name == MODEL else "discriminator"
            tensors = weights.outline(config, role).values()  # type: ignore[arg-type]
            limit = weights.HEADER_LIMIT + sum(t.numel() * t.element_size() for t in tensors)
        if announced.get(name) != size or size > limit:
            told = f"{repo_id}: {name} is announced with {announced.get(name)} bytes"
            raise WeightsError(f"{told}, {CONFIG} says {size:,}, and at most {limit:,} would fit: it is not fetched")
        path = _download(api, repo_id, commit, name)
        try:
            weights.check_file(folder, name, config.files[name])
        except WeightsError:
            _download(api, repo_id, commit, name, force=True)
            try:
                weights.check_file(folder, name, config.files[name])
            except WeightsError as error:
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise WeightsError(f"{repo_id}: {name} came twice with bytes that differ from its hash") from error
    if not pinned:
        # Downloads by commit leave no word of which commit a branch was: without it the cache is no use offline.
        reference = folder.parent.parent / "refs" / (revision or "main")
        with _told(repo_id, "cache"):
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(commit, encoding="utf-8")
    return folder


def fetch_file(repo_id: str, name: str) -> Path:
    """One file of any model repository's main branch. What is cached is found without a request.

    Raises:
        HubError: not found, no access, not reachable, offline and not cached.
    """
    from huggingface_hub import try_to_load_from_cache

    api = _api()
    with _told(repo_id, "fetch"):
        cached = try_to_load_from_cache(repo_id, name)
        if isinstance(cached, str):
            return Path(cached)
        _patiently(lambda: api.model_info(repo_id, timeout=TIMEOUT))  # fails at once where `_download` would try on
    return _download(api, repo_id, None, name)


def _cached(repo_id: str, revision: str | None, names: Iterable[str]) -> Path | None:
    """The cached snapshot, if it holds all these files with their hashes."""
    from huggingface_hub import try_to_load_from_cache

    with _told(repo_id, "look for"):
        path = try_to_load_from_cache(repo_id, CONFIG, revision=revision)
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    try:
        config = read_config(folder)
        for name in names:
            if name in config.files:
                weights.check_file(folder, name, config.files[name])
    except WeightsError:
        return None
    return folder


def _download(api: "HfApi", repo_id: str, commit: str | None, name: str, force: bool = False) -> Path:
    with _bounded(), _told(repo_id, "fetch"):
        got = _patiently(
            lambda: api.hf_hub_download(repo_id, name, revision=commit, force_download=force, etag_timeout=TIMEOUT)
        )
    return Path(got)


# Publishing


@dataclass(frozen=True)
class Pushed:
    """A publication: where it is, and the commit that pins it."""

    url: str
    commit: str


def push(
    source: Any,
    repo_id: str,
    *,
    private: bool = False,
    license: str = "",
    tag: str = "",
    message: str = "",
    discriminator: bool = False,
) -> Pushed:
    """Publish a run or a model folder as one commit, card included.

    A new repository is private until the commit is whole, so nobody ever sees half of it.

    Args:
        source: a run, a run folder or a model folder.
        repo_id: "ORG/NAME"; made if it does not exist.
        private: keep it private.
        license: of the weights, as the Hub spells it; by default as the model folder has it.
        tag: a tag to put on the commit, such as "v1".
        message: of the commit.
        discriminator: publish a run's discriminator too, for fine-tuning.

    Raises:
        HubError: no permission, not reachable, or the repository changed meanwhile.
        WeightsError, CheckpointError: the source is damaged or not there.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub import errors as hf

    folder = Path(getattr(source, "folder", source))
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        name = f"{PREFIX}{repo_id}"
        if is_model(folder):
            _copy_model(folder, model, name, license)
            if discriminator and not (model / DISCRIMINATOR).exists():
                raise WeightsError(f"{folder} holds no discriminator to publish: push the run folder instead")
        else:
            weights.save_pretrained(folder, model, name=name, license=license, discriminator=discriminator)
        weights.verify(model)
        files = [CONFIG, *(name for name in FILES if (model / name).exists())]
        api = _api()
        with _bounded(), _told(repo_id, "push to"):
            known = _patiently(lambda: api.repo_exists(repo_id))
            if not known:
                _patiently(lambda: api.create_repo(repo_id, private=True, exist_ok=True))
            info = _patiently(lambda: api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT))
            there = {sibling.rfilename for sibling in info.siblings or []}
            ours = not known or CONFIG not in there  # made by us, perhaps by a push that failed
            if not ours and info.private and not private:
                branches = _patiently(lambda: api.list_repo_refs(repo_id)).branches
                ours = any(branch.name == UNOPENED for branch in branches)
            elif not known:
                _patiently(lambda: api.create_branch(repo_id, branch=UNOPENED, exist_ok=True))
            if known and not ours and private and not info.private:
                raise HubError(
                    f"{repo_id} exists and is public: make it private in its settings, or choose another name"
                )
            operations: list[Any] = [CommitOperationAdd(name, model / name) for name in files]
            operations += [CommitOperationDelete(name) for name in FILES if name in there and name not in files]
            title = message or f"Publish {read_config(model).architecture} with ganzoo"
            parent = info.sha
            digest = (model / CONFIG).read_bytes()

            def commit() -> str:
                """Commit, unless an earlier try did and only its answer was lost."""
                head = api.model_info(repo_id, timeout=TIMEOUT).sha or ""
                if head != parent:
                    landed = Path(api.hf_hub_download(repo_id, CONFIG, revision=head))
                    if landed.read_bytes() == digest:
                        return head
                done = api.create_commit(repo_id, operations, commit_message=title, parent_commit=parent)
                return done.oid

            oid = _patiently(commit)
            if ours and not private:
                _patiently(lambda: api.update_repo_settings(repo_id, private=False))
            if ours:
                with contextlib.suppress(hf.RevisionNotFoundError):  # the push that failed came not so far
                    _patiently(lambda: api.delete_branch(repo_id, branch=UNOPENED))
            if tag:
                _patiently(lambda: api.create_tag(repo_id, tag=tag, revision=oid, exist_ok=False))
    return Pushed(f"{api.endpoint}/{repo_id}", oid)


def _copy_model(folder: Path, target: Path, name: str, license: str) -> None:
    """A model folder's own files, with a card that loads it by its new name."""
    weights.verify(folder)
    target.mkdir()
    content = weights.read_json(folder / CONFIG)
    for file in content["files"]:
        shutil.copyfile(folder / file, target / file)
    if CARD in content["files"]:
        text = rename_source((folder / CARD).read_text(encoding="utf-8"), name)
        if license:
            text = relicense(text, license)
        (target / CARD).write_text(text, encoding="utf-8")
    weights.write_config(target, content)


def publish(organisation: str, cards: Path | None = None) -> Iterator[tuple[str, Pushed, str]]:
    """Push every model folder of model_cards/ to ORGANISATION/NAME.

    Returns:
        For each: its name, where it went, and the `register(...)` line of a `register_weights` hook that pins it.
    """
    cards = cards or cards_folder()
    for folder in sorted(path.parent for path in cards.glob(f"*/{CONFIG}")):
        pushed = push(folder, f"{organisation}/{folder.name}")
        config = read_config(folder)
        license = card_license((folder / CARD).read_text(encoding="utf-8")) or "unknown"
        facts: dict[str, Any] = {
            "repo_id": f"{organisation}/{folder.name}",
            "revision": pushed.commit,
            "license": license,
        }
        facts |= {"size": config.files[MODEL]["size"], "image_size": config.generator.get("image_size")}
        listed = ", ".join(f"{key}={json.dumps(value)}" for key, value in facts.items() if value is not None)
        yield folder.name, pushed, f'register("{folder.name}", {listed})'


def search(organisation: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """ganzoo models on the Hub, the most downloaded first: what anyone may have tagged so, not a recommendation.

    Returns:
        id, commit, author, licence and downloads of each.
    """
    api = _api()
    with _bounded(), _told("the Hub", "search"):
        found = _patiently(
            lambda: list(
                api.list_models(filter="ganzoo", author=organisation, sort="downloads", limit=limit, full=True)
            )
        )
    listed = []
    for model in found:
        licenses = [tag.removeprefix("license:") for tag in model.tags or [] if tag.startswith("license:")]
        facts = {"id": model.id, "commit": model.sha, "author": model.author, "license": "".join(licenses[:1])}
        listed.append({**facts, "downloads": model.downloads})
    return listed


# The client, told apart


class HubUnreachable(HubError):
    """No answer: what is cached may still serve."""


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="ganzoo")


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """A timeout for the client's requests that have none: it asks for "none" by name, so a default would not do."""
    from huggingface_hub import get_session

    def limit(request: Any) -> None:
        asked = request.extensions.get("timeout") or {}
        phases = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {p: TIMEOUT if asked.get(p) is None else asked[p] for p in phases}

    session = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "request": [*before["request"], limit]}
    try:
        yield
    finally:
        session.event_hooks = before


def _patiently(call: Callable[[], T]) -> T:
    """Repeat what fails for a passing reason, with growing waits."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in PASSING:
                raise
            asked = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), LONGEST_WAIT) if asked.isdigit() else wait)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            time.sleep(wait)
    return call()


@contextlib.contextmanager
def _told(repo_id: str, verb: str) -> Iterator[None]:
    """Whatever the client raises, as one HubError that says which of the many causes it was."""
    import httpx2
    from huggingface_hub import errors as hf

    try:
        yield
    except hf.GatedRepoError as error:
        raise HubError(f"{repo_id} is gated: ask for access on its page, then log in with `hf auth login`") from error
    except hf.RepositoryNotFoundError as error:
        hint = "check the name; if it is private, log in with `hf auth login` or set HF_TOKEN"
        raise HubError(f"cannot {verb} {repo_id}: no such repository, or no access to it: {hint}") from error
    except hf.RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no such revision: name a branch, a tag or a commit") from error
    except hf.OfflineModeIsEnabled as error:
        raise HubUnreachable(f"cannot {verb} {repo_id}: HF_HUB_OFFLINE is set") from error
    except hf.HfHubHTTPError as error:
        raise _of_status(error, repo_id, verb) from error
    except hf.LocalEntryNotFoundError as error:  # the client's word for many things; its cause knows
        cause = error.__cause__
        if isinstance(cause, hf.HfHubHTTPError):
            raise _of_status(cause, repo_id, verb) from error
        raise HubUnreachable(f"cannot {verb} {repo_id}: the Hub does not answer") from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise HubUnreachable(f"cannot {verb} {repo_id}: the Hub does not answer ({type(error).__name__})") from error
    except hf.EntryNotFoundError as error:
        raise HubError(f"{repo_id} lacks a file that its listing has") from error
    except OSError as error:
        raise HubError(f"cannot {verb} {repo_id}: {error.strerror or str(error).splitlines()[0]}") from error
    except (ValueError, RuntimeError) as error:
        raise HubError(f"cannot {verb} {repo_id}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


def _of_status(error: Any, repo_id: str, verb: str) -> HubError:
    status = error.response.status_code if error.response is not None else 0
    if status == 401:
        from huggingface_hub import get_token

        why = "the Hub does not accept the token" if get_token() else "that needs a token, and there is none"
        return HubError(f"cannot {verb} {repo_id}: {why}: `hf auth login`, or set HF_TOKEN")
    if status == 403:
        return HubError(f"cannot {verb} {repo_id}: the token may not do that: it needs write access there")
    if status in (409, 412):
        return HubError(f"cannot {verb} {repo_id}: it changed meanwhile: look at it and try again")
    if status in PASSING:
        return HubUnreachable(f"cannot {verb} {repo_id}: the Hub answered {status} each time: try again later")
    return HubError(f"cannot {verb} {repo_id}: the Hub answered {status}")
