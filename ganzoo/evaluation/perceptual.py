"""A distance of images by the feature maps of a network."""

import torch
from torch import Tensor, nn

from ganzoo.errors import EvaluationError
from ganzoo.evaluation.features import Extractor


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
        maps = [one.float() for one in self.features.maps((images.clamp(-1, 1) + 1) * 127.5)]
        return [one / (one.square().sum(1, keepdim=True) + 1e-8).sqrt() for one in maps]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distances (N,) of images (N, C, H, W) in [-1, 1]."""
        pairs = zip(self.maps(a), self.maps(b), strict=True)
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in pairs]).sum(0)
