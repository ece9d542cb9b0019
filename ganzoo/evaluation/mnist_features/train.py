"""Trains the digit classifier: `python -m ganzoo.evaluation.mnist_features.train --data-dir FOLDER`.

FOLDER is that of torchvision's MNIST.
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ganzoo.data.loading import load
from ganzoo.evaluation.mnist_features import SIZE, WEIGHTS, DigitClassifier
from ganzoo.rng import Rng

EPOCHS = 10
BATCH = 128
LR = 2e-3


def augment(images: Tensor, rng: Rng) -> Tensor:
    """Rotate each image by up to 10 degrees, scale it by up to 10 % and shift it by up to 2 pixels."""
    n = len(images)
    angle = (2 * rng.rand(n) - 1) * math.radians(10)
    scale = 1 + 0.1 * (2 * rng.rand(n) - 1)
    shift = (2 * rng.rand(n, 2) - 1) * 2 / (SIZE / 2)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # padded with black, which is -1


def accuracy(model: DigitClassifier, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        predictions = torch.cat([model(part)[1].argmax(1) for part in torch.split(images, 1000)])
    return (predictions == labels).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    folder = parser.parse_args().data_dir
    sets = []
    for split in ("train", "test"):
        data = load("mnist", folder, options={"split": split})
        assert data.labels is not None
        sets.append((data.items[:].float() / 127.5 - 1, data.labels))
    (images, labels), test = sets

    torch.manual_seed(0)
    model = DigitClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=1e-2)
    per_epoch = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=EPOCHS * per_epoch, pct_start=0.2)
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(images), generator=Rng(0, epoch, "order").generator)
        rng = Rng(0, epoch, "augment")
        for k in range(per_epoch):
            index = order[k * BATCH : (k + 1) * BATCH]
            logits = model(augment(images[index], rng))[1]
            loss = F.cross_entropy(logits, labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: {time.perf_counter() - began:.0f} s, last loss {loss.item():.4f}", flush=True)
    test_accuracy = accuracy(model, *test)  # computed once, after training, so that no choice depends on it
    print(f"{test_accuracy:.2%} of the {len(test[1])} test digits are classified correctly")
    save_file(model.state_dict(), WEIGHTS, metadata={"test_accuracy": f"{test_accuracy:.4f}"})
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
