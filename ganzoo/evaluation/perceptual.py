"""A distance of images by the feature maps of a network."""

import torch
from torch import Tensor, nn

from ganzoo.errors import EvaluationError
from ganzoo.evaluation.features import GENERAL, Extractor, extractor


class Perceptual(nn.Module):
    """A distance of images by feature maps, in the manner of LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924,
    equation 1) without learned weights: the mean square of the differences between maps whose channels are normalised
    to length 1 at each position, summed over the resolutions. It is at least 0, and at most 4 for each resolution.

    Args:
        features: whose maps are compared.

    Raises:
        EvaluationError: these features have no maps.
    """

    def __init__(self, features: Extractor) -> None:
        super().__init__()
        if not features.has_maps:
            raise EvaluationError(f"the features {features.name} have no maps for a perceptual distance: take others")
        self.features = features

    def maps(self, images: Tensor) -> list[Tensor]:
        """The normalised feature maps (N, K, H', W') of images (N, C, H, W) in [-1, 1]."""
        maps = self.features.maps((images.clamp(-1, 1) + 1) * 127.5)
        maps = [one.to(torch.promote_types(one.dtype, torch.float32)) for one in maps]
        return [one / (one.square().sum(1, keepdim=True) + 1e-8).sqrt() for one in maps]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distances (N,) of images (N, C, H, W) in [-1, 1]."""
        pairs = zip(self.maps(a), self.maps(b), strict=True)
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in pairs]).sum(0)


def perceptual_distance(features: str) -> Perceptual:
    """A perceptual distance that can be minimised: a module that maps images a and b, (N, C, H, W) in [-1, 1], to their
    distances (N,). Its own weights are frozen.

    Args:
        features: by which network's maps it is computed: "timm:NAME" or "timm:NAME=FILE" for one of timm's models,
            "auto" or "auto=FILE" for that of `ganzoo eval`, or "mnist" for the classifier of digits in the package,
            which sees each channel by itself.

    Raises:
        EvaluationError: the spec names other features, or the weights cannot be loaded.
    """
    name, _, _ = features.partition("=")
    if features != "mnist" and name != "auto" and not name.startswith("timm:"):
        raise EvaluationError(
            f"a perceptual distance takes auto[=FILE], timm:NAME[=FILE], mnist or none, not {features!r}"
        )
    return Perceptual(extractor(f"timm:{GENERAL}{features.removeprefix('auto')}" if name == "auto" else features))
