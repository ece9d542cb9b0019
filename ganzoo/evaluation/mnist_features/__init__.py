"""A small classifier of handwritten digits, whose penultimate layer gives the features of digits. See README.md."""

from pathlib import Path

from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("mnist.safetensors")
SIZE = 28
CLASSES = 10


class DigitClassifier(nn.Module):
    """Maps grey images (N, 1, 28, 28) in [-1, 1] to features (N, 64), which are at least 0, and logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))

        self.body = nn.Sequential(block(1, 32), block(32, 64), block(64, 96), nn.Flatten())
        self.features = nn.Sequential(nn.Linear(96 * 3 * 3, 64), nn.ReLU())
        self.classes = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(self.body(images))
        return features, self.classes(features)
