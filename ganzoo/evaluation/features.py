"""Feature extractors: networks that map uint8 images to features and, if they have classes, to logits."""

import difflib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganzoo.data.dataset import Data
from ganzoo.errors import EvaluationError, did_you_mean
from ganzoo.evaluation.mnist_features import SIZE, WEIGHTS, DigitClassifier
from ganzoo.exchange.checkpoints import read_tensors
from ganzoo.files import cache_folder, file_hash, reason, replacing
from ganzoo.rng import preserve_torch
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

NAMES = ("auto", "mnist", "inception", "timm:NAME")
GENERAL = "tf_efficientnet_lite0"
"""timm's model for all data that names no features of its own. It takes a fourteenth of Inception v3's operations."""
CHUNK = 4
"""Images that go through timm's models at once on a CPU. Their activations fit into its cache, and those of
the model `GENERAL` stay below 32 MB each, from which on glibc gets fresh memory from the system every time."""
LEAST_SIDE = 64
"""Pixels to which smaller images are enlarged before timm's models compute feature maps of them."""
INCEPTION_MAPS = ("MaxPool_1", "MaxPool_2", "Mixed_6e", "Mixed_7c")
"""The layers of Inception v3 whose maps are used: the ends of its four blocks, of 73, 35, 17 and 8 pixels a side."""


class Extractor(nn.Module):
    """Maps uint8 images (N, C, H, W) to features (N, F) and logits (N, groups, classes), or None without classes.

    Attributes:
        name: the extractor's name in the protocol.
        resize: how it resizes images, for the protocol.
        by_channel: whether its features are those of the single channels, concatenated.
        has_maps: whether it has `maps`, by which a perceptual distance is computed.
    """

    name: str
    resize: str
    by_channel = False
    has_maps = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def maps(self, images: Tensor) -> list[Tensor]:
        """The feature maps (N, K, H', W') of images (N, C, H, W) of floats in [0, 255], at several resolutions."""
        raise NotImplementedError


class MnistFeatures(Extractor):
    """The digit classifier that ships in the package, applied to each channel; the features are concatenated."""

    name = "mnist"
    resize = f"{SIZE}x{SIZE}, bilinear, antialiased"
    by_channel = True
    has_maps = True

    def __init__(self) -> None:
        super().__init__()
        self.net = DigitClassifier()
        self.net.load_state_dict(load_file(WEIGHTS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        n, channels = images.shape[:2]
        features, logits = self.net(_single_channels(images.float()))
        return features.reshape(n, -1), logits.reshape(n, channels, -1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps after each convolution and its pooling, with those of an image's channels below each other."""
        x, maps = _single_channels(images), []
        for block in self.net.body[:-1]:
            x = block(x)
            maps.append(x.unflatten(0, images.shape[:2]).transpose(1, 2).flatten(2, 3))
        return maps


def _single_channels(images: Tensor) -> Tensor:
    """Each channel of images (N, C, H, W) in [0, 255] as an image of digits, (N * C, 1, 28, 28) in [-1, 1]."""
    return _resized(images.flatten(0, 1).unsqueeze(1), (SIZE, SIZE), "bilinear") / 127.5 - 1


class InceptionFeatures(Extractor):
    """torch-fidelity's Inception v3, the network of the FID paper (Heusel et al. 2017, arXiv:1706.08500): its 2048
    pooled features and its logits.

    Args:
        file: the weights; None: those of torch-fidelity, which are downloaded once.
    """

    name = "inception"
    resize = "299x299, bilinear as in TensorFlow 1"
    has_maps = True

    def __init__(self, file: str | None) -> None:
        super().__init__()
        from torch_fidelity import feature_extractor_inceptionv3 as library  # type: ignore[import-untyped]

        path = Path(file).expanduser() if file else _inception_file(library.URL_INCEPTION_V3)
        try:
            with tempfile.TemporaryDirectory() as folder:  # the library gets a file that holds nothing but the tensors
                torch.save(read_tensors(path), plain := Path(folder) / "inception.pt")
                self.net = library.FeatureExtractorInceptionV3(
                    self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(plain)
                )
        except RuntimeError as error:
            message = " ".join(str(error).split())[:300]
            raise EvaluationError(f"{path} does not hold torch-fidelity's Inception weights: {message}") from error

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.net(_three_channels(images))
        return features, logits.unsqueeze(1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps of `INCEPTION_MAPS`. The library takes uint8 images, so gradients do not reach them."""
        maps: list[Tensor] = []
        handles = [
            getattr(self.net, name).register_forward_hook(lambda _layer, _inputs, output: maps.append(output))
            for name in INCEPTION_MAPS
        ]
        try:
            self.net(_three_channels(images.round().byte()))
        finally:
            for handle in handles:
                handle.remove()
        return maps


def _inception_file(url: str) -> Path:
    """The file in which torch-fidelity keeps its weights. It is downloaded if it does not exist."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise EvaluationError(
                f"Inception's weights are not at {path} and cannot be fetched from {url}: {error}. Put the file there "
                "(TORCH_HOME sets torch's folder), pass it as --features inception=FILE, or use timm:NAME"
            ) from error
    return path


class TimmFeatures(Extractor):
    """The pooled features of one of timm's models, for images of the size, mean and deviation that its weights expect.

    Args:
        model: its name in timm.
        file: its weights as safetensors; None: fetch them from the Hub. A copy of the file for the model `GENERAL` is
            kept in the cache folder, and used from then on where no file is given.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: str, file: str | None) -> None:
        super().__init__()
        import timm
        from timm.data.config import resolve_model_data_config

        if not timm.is_model(model):
            near = difflib.get_close_matches(model, timm.list_models(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists them"
            raise EvaluationError(f"timm has no model {model!r}: {hint}")
        kept = cache_folder() / "features" / f"{model}.safetensors" if model == GENERAL else None
        path = Path(file).expanduser() if file else kept if kept and kept.exists() else None
        try:
            self.net: Any = timm.create_model(model, pretrained=path is None, num_classes=0)
        except (OSError, RuntimeError) as error:
            raise EvaluationError(_cannot_fetch(model, error)) from error
        config: dict[str, Any] = resolve_model_data_config(self.net)  # type: ignore[no-untyped-call]
        if path is not None:
            self._load(model, path)
        if kept is not None and path == kept:
            logger.info("the features are computed by the weights in %s", kept)
        elif kept is not None and path is not None:
            _keep(path, kept)
        self.net.to(memory_format=torch.channels_last)  # a third faster on a CPU
        self.name = f"timm:{model}"
        self.size: tuple[int, int] = tuple(config["input_size"][1:])
        self.mode = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        self.resize = f"{self.size[0]}x{self.size[1]}, {self.mode}, antialiased"
        self.has_maps = hasattr(self.net, "forward_intermediates")
        self.register_buffer("mean", 255 * torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)

    def _load(self, model: str, path: Path) -> None:
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise EvaluationError(
                f"{path} cannot be read as safetensors: {reason(error)}. Give another: --features timm:{model}=FILE"
            ) from error
        head = self.net.pretrained_cfg.get("classifier") or ()  # only its tensors may be left over
        for name in (head,) if isinstance(head, str) else head:
            tensors = {key: value for key, value in tensors.items() if not key.startswith(f"{name}.")}
        try:
            self.net.load_state_dict(tensors)
        except RuntimeError as error:
            message = " ".join(str(error).split())[:300]
            raise EvaluationError(f"{path} does not hold the weights of timm's {model}: {message}") from error

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        size = CHUNK if images.device.type == "cpu" else max(len(images), 1)
        return torch.cat([self._features(part) for part in torch.split(images, size)]), None

    def _features(self, images: Tensor) -> Tensor:
        x = _resized(_three_channels(images).float(), self.size, self.mode)
        features: Tensor = self.net((x - self.mean) / self.std)
        return features.flatten(1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps of all resolutions. Images keep their size if it is at least 64 pixels; only models that take images
        of one size, as transformers do, get them in that."""
        x = _three_channels(images)
        if self.net.pretrained_cfg.get("fixed_input_size"):
            x = _resized(x, self.size, self.mode)
        elif x.shape[2] < LEAST_SIDE:
            x = interpolate(x, (LEAST_SIDE, LEAST_SIDE), mode="bilinear", antialias=True)
        maps: list[Tensor] = self.net.forward_intermediates((x - self.mean) / self.std, intermediates_only=True)
        return maps


def _cannot_fetch(model: str, error: Exception) -> str:
    """The message about weights of timm's that are not at hand: how to get them, once, onto a machine offline."""
    from timm.models import get_pretrained_cfg

    config: Any = get_pretrained_cfg(model)
    repository = config.hf_hub_id if config else None
    source = f"model.safetensors from https://huggingface.co/{repository}" if repository else "them"
    give = f"--features timm:{model}=FILE"
    if model == GENERAL:
        give = "--features auto=FILE (in Python: features='auto=FILE'), of which ganzoo keeps a copy"
    digits = "; digits of MNIST need none of this, by --features mnist" if model == GENERAL else ""
    return (
        f"timm's weights of {model} cannot be fetched: {str(error).rstrip('.')}. Download {source} where there is a "
        f"network, and pass the file: {give}{digits}"
    )


def _keep(path: Path, kept: Path) -> None:
    """Copy a file of weights to where later measurements look for it. A failure is only a warning."""
    try:
        if kept.exists() and file_hash(kept) == file_hash(path):
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept, shared=True) as temporary:
            shutil.copyfile(path, temporary)
        logger.info("a copy of %s is kept in %s: later measurements need no file", path, kept)
    except OSError as error:
        logger.warning("%s cannot be written, so later measurements need %s again: %s", kept, path, reason(error))


def _resized(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if images.shape[2:] == size:
        return images
    return interpolate(images, size, mode=mode, antialias=True, align_corners=False).clamp(0, 255)


def _three_channels(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def choose_features(features: str | None, data: str | Data) -> str:
    """The spec of an extractor for `features`, in which "auto" or None is replaced by the features for that data.

    They are those that a registered data set names ("mnist" for the digits of MNIST), and for all other data those of
    timm's model `GENERAL`. "auto=FILE" also gives the file with their weights, where they do not ship in the package.
    """
    name, _, file = (features or "auto").partition("=")
    if features is not None and name != "auto":
        return features
    source = registry().data.get(data) if isinstance(data, str) else None
    chosen = (source.features if source else "") or f"timm:{GENERAL}"
    return f"{chosen}={file}" if file and chosen != "mnist" else chosen


def extractor(spec: str) -> Extractor:
    """The extractor that a spec names, in evaluation mode on the CPU. torch's random state does not change.

    Args:
        spec: "mnist", "inception", "inception=FILE", "timm:NAME" or "timm:NAME=FILE".

    Raises:
        EvaluationError: there is no such extractor, or its weights cannot be fetched or read, or do not fit.
        WeightsError: FILE holds more than tensors.
    """
    name, _, file = spec.partition("=")
    network: Extractor
    with preserve_torch(torch.device("cpu")):
        if name == "mnist" and not file:
            network = MnistFeatures()
        elif name == "inception":
            network = InceptionFeatures(file or None)
        elif name.startswith("timm:"):
            network = TimmFeatures(name.removeprefix("timm:"), file or None)
        else:
            raise EvaluationError(f"no features are called {spec!r}: {did_you_mean(spec, NAMES)}")
    return network.eval().requires_grad_(False)
