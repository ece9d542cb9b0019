"""The meaning of a SOURCE, and the generator that it holds."""

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from ganzoo.errors import UnknownNameError, WeightsError, did_you_mean
from ganzoo.store.hub import PREFIX, fetch
from ganzoo.store.manifest import CONFIG, MODEL
from ganzoo.store.models import load_network
from ganzoo.store.networks import load_run
from ganzoo.store.runs import STATE, TRAINING
from ganzoo.zoo.plugins import registry


def find(source: str, names: Iterable[str] = (CONFIG, MODEL), *, local_files_only: bool = False) -> Path:
    """The folder behind a SOURCE: a run, checkpoint or model folder, fetched first if it is on the Hub.

    Args:
        source: a path (with a slash or a leading dot), "hf-hub:ORG/NAME[@REVISION]", or a name of registered weights.
        names: the files of a model folder that are needed.
        local_files_only: make no request; a file that is not cached is an error.

    Raises:
        UnknownNameError: there are no registered weights of that name.
        WeightsError: there is no such folder, or it is not one of these kinds.
        HubError: it cannot be fetched.
    """
    if source.startswith(PREFIX):
        repo_id, _, revision = source.removeprefix(PREFIX).partition("@")
        return fetch(repo_id, revision or None, names, local_files_only=local_files_only)
    if "/" in source or "\\" in source or source.startswith("."):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise WeightsError(f"there is no folder {source}; a Hub repository is written {PREFIX}ORG/NAME")
        if not any((folder / name).exists() for name in (CONFIG, TRAINING, STATE)):
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


def is_model(folder: Path) -> bool:
    """Whether a folder that `find` returned is a model folder, and not a run's or a checkpoint's."""
    return (folder / CONFIG).is_file() or not ((folder / "checkpoints").is_dir() or (folder / STATE).is_file())


def from_pretrained(source: str, *, revision: str | None = None, local_files_only: bool = False) -> nn.Module:
    """Load a trained generator. For one with random weights, see `create`.

    Args:
        source: the name of registered weights ("dcgan.digits"), a run or model folder ("./runs/a"), or
            "hf-hub:ORG/NAME[@REVISION]".
        revision: a branch, tag or commit of a Hub repository; a commit pins the weights.
        local_files_only: make no request; a file that is not cached is an error.

    Returns:
        The generator, in evaluation mode on the CPU, with its settings as `.config` and the names of its classes, if
        they have any, as `.class_names`. It maps latents (N, z_dim) to items (N, ...) in [-1, 1], images (N, C, H, W),
        or sounds (N, C, T), whose rate in Hz is `.sampling_rate`.

    Raises:
        UnknownNameError: there are no registered weights of that name.
        HubError: the weights cannot be fetched.
        WeightsError: the folder does not exist, or its weights are damaged or do not fit.
        CheckpointError: the run folder has no whole checkpoint.
    """
    if revision is not None:
        source = f"{source.partition('@')[0]}@{revision}"
    folder = find(str(source), local_files_only=local_files_only)
    return load_network(folder, "generator") if is_model(folder) else load_run(folder)
