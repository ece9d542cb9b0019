"""Publication on the Hugging Face Hub, as one commit, which appears whole or not at all."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ganzoo.errors import HubError, WeightsError
from ganzoo.store.card import card_license, cards_folder, relicense, rename_source
from ganzoo.store.client import calling, hub_client, patiently
from ganzoo.store.hub import PREFIX
from ganzoo.store.manifest import CARD, CONFIG, DISCRIMINATOR, FILES, MODEL, read_config, read_json, write_config
from ganzoo.store.models import verify
from ganzoo.store.save import save_pretrained
from ganzoo.store.source import is_model

if TYPE_CHECKING:
    from huggingface_hub import HfApi

UNOPENED = "ganzoo-unopened"
"""Branch that marks a repository whose first push has not been completed: only such a one is made public later."""


Kind = Literal["model", "space"]
"""The kinds of repositories, as the Hub's client calls them."""
SPACE_APP = "app.py"
"""The file that a Space starts."""


@dataclass(frozen=True)
class Pushed:
    """A publication on the Hub.

    Attributes:
        url: the address of its page.
        commit: the commit that pins it.
    """

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
    """Publish a run or a model folder, with its card, as one commit.

    A new repository stays private until the commit is complete, so that nobody sees half of it.

    Args:
        source: the result of `train`, a run folder or a model folder.
        repo_id: the repository, "ORG/NAME"; it is created if it does not exist.
        private: keep a new repository private.
        license: the licence of the weights, as the Hub spells it; by default that of the model folder.
        tag: a tag for the commit, such as "v1".
        message: the commit message; by default one with the architecture's name.
        discriminator: publish a run's discriminator too, for fine-tuning.

    Returns:
        The publication, with its `url` and its `commit`.

    Raises:
        HubError: there is no permission, the Hub cannot be reached, or the repository changed in the meantime.
        WeightsError: the model folder is damaged or has no discriminator to publish.
        CheckpointError: the source is not a run folder, or has no whole checkpoint yet.
    """
    folder = Path(getattr(source, "folder", source))
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        name = f"{PREFIX}{repo_id}"
        if is_model(folder):
            _copy_model(folder, model, name, license)
            if discriminator and not (model / DISCRIMINATOR).exists():
                raise WeightsError(f"{folder} holds no discriminator to publish: push the run folder instead")
        else:
            save_pretrained(folder, model, name=name, license=license, discriminator=discriminator)
        verify(model)
        api = hub_client()
        files = [CONFIG, *(name for name in FILES if (model / name).exists())]
        with calling(repo_id, "push to"):
            title = message or f"Publish {read_config(model).architecture} with ganzoo"
            commit = _publish(api, repo_id, "model", model, files, FILES, title, private)
            if tag:
                patiently(lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=False))
    return Pushed(f"{api.endpoint}/{repo_id}", commit)


def _copy_model(folder: Path, target: Path, name: str, license: str) -> None:
    """Copy the files of a model folder, with a card that loads it by its new name."""
    verify(folder)
    target.mkdir()
    content = read_json(folder / CONFIG)
    for file in content["files"]:
        shutil.copyfile(folder / file, target / file)
    if CARD in content["files"]:
        text = rename_source((folder / CARD).read_text(encoding="utf-8"), name)
        if license:
            text = relicense(text, license)
        (target / CARD).write_text(text, encoding="utf-8")
    write_config(target, content)


def push_space(folder: str | Path, repo_id: str, *, private: bool = False, message: str = "") -> Pushed:
    """Publish a folder that `ganzoo space` wrote as a Space, as one commit.

    Args:
        folder: the folder. Its hidden files stay here.
        repo_id: the Space, "ORG/NAME"; it is created if it does not exist.
        private: keep a new Space private.
        message: the commit message.

    Raises:
        WeightsError: this is no such folder.
        HubError: there is no permission, the Hub cannot be reached, or the Space changed in the meantime.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (SPACE_APP, CARD)):
        raise WeightsError(f"{folder} is no Space: it lacks {SPACE_APP} or {CARD}. Write one with `ganzoo space`")
    below = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path.as_posix() for path in below if not any(part.startswith((".", "__")) for part in path.parts)]
    api = hub_client()
    with calling(repo_id, "push to"):
        title = message or "Publish the workshop with ganzoo"
        commit = _publish(api, repo_id, "space", folder, [SPACE_APP, *files], (), title, private)
    return Pushed(f"{api.endpoint}/spaces/{repo_id}", commit)


def _publish(
    api: "HfApi",
    repo_id: str,
    kind: Kind,
    folder: Path,
    files: Sequence[str],
    outdated: Sequence[str],
    title: str,
    private: bool,
) -> str:
    """Publish files of a folder as one commit, in a new repository or in one that is there.

    Args:
        files: the files; the first marks a repository that has been published to.
        outdated: files that are deleted if they are there and not among those.

    Returns:
        The hash of the commit.
    """
    opened, info = _open_repository(api, repo_id, kind, files[0], private)
    commit = _commit(api, repo_id, kind, info, folder, list(dict.fromkeys(files)), outdated, title)
    if not opened:
        _finish_first_push(api, repo_id, kind, private)
    return commit


def _open_repository(api: "HfApi", repo_id: str, kind: Kind, marker: str, private: bool) -> tuple[bool, Any]:
    """Create the repository, private and marked as unopened, if it does not exist.

    Returns:
        Whether its visibility is the owner's decision: False for one that ganzoo created and has not opened yet, in
        this push or in an earlier one that failed. And what the Hub says of it.
    """
    known = patiently(lambda: api.repo_exists(repo_id, repo_type=kind))
    if not known:
        sdk = "gradio" if kind == "space" else None
        patiently(lambda: api.create_repo(repo_id, private=True, exist_ok=True, repo_type=kind, space_sdk=sdk))
        patiently(lambda: api.create_branch(repo_id, branch=UNOPENED, exist_ok=True, repo_type=kind))
    info: Any = patiently(lambda: api.repo_info(repo_id, repo_type=kind))
    opened = known and marker in {sibling.rfilename for sibling in info.siblings or []}
    if opened and info.private and not private:
        branches = patiently(lambda: api.list_repo_refs(repo_id, repo_type=kind)).branches
        opened = not any(branch.name == UNOPENED for branch in branches)
    if opened and private and not info.private:
        raise HubError(f"{repo_id} exists and is public: make it private in its settings, or choose another name")
    return opened, info


def _commit(
    api: "HfApi",
    repo_id: str,
    kind: Kind,
    info: Any,
    folder: Path,
    files: Sequence[str],
    outdated: Sequence[str],
    title: str,
) -> str:
    """Commit files of a folder to the main branch of the repository, which is as `info` says.

    Returns:
        The hash of the commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    existing = {sibling.rfilename for sibling in info.siblings or []}
    operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in files]
    operations += [CommitOperationDelete(name) for name in outdated if name in existing and name not in files]
    parent = info.sha
    marker = (folder / files[0]).read_bytes()

    def commit() -> str:
        """Commit, unless an earlier attempt succeeded and only its answer was lost."""
        head = api.repo_info(repo_id, repo_type=kind).sha or ""
        if head != parent:
            landed = Path(api.hf_hub_download(repo_id, files[0], revision=head, repo_type=kind))
            if landed.read_bytes() == marker:
                return head
        return api.create_commit(
            repo_id, operations, commit_message=title, parent_commit=parent, repo_type=kind
        ).oid  # fmt: skip

    return patiently(commit)


def _finish_first_push(api: "HfApi", repo_id: str, kind: Kind, private: bool) -> None:
    """Open the repository unless it is to stay private, and remove the mark."""
    from huggingface_hub.errors import RevisionNotFoundError

    if not private:
        patiently(lambda: api.update_repo_settings(repo_id, private=False, repo_type=kind))
    with contextlib.suppress(RevisionNotFoundError):  # an earlier push failed before it set the mark
        patiently(lambda: api.delete_branch(repo_id, branch=UNOPENED, repo_type=kind))


def publish(organisation: str, cards: Path | None = None) -> Iterator[tuple[str, Pushed, str]]:
    """Push every model folder of model_cards/ to ORGANISATION/NAME.

    Yields:
        For each: its name, its publication, and the `register(...)` line for a `register_weights` hook that pins it.
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
            "size": config.files[MODEL]["size"],
            "image_size": config.generator.get("image_size"),
        }
        listed = ", ".join(f"{key}={json.dumps(value)}" for key, value in facts.items() if value is not None)
        yield folder.name, pushed, f'register("{folder.name}", {listed})'
