"""The inputs of a translation that a run shows, and those from which statistics are estimated."""

import torch
from torch import Tensor

from ganzoo.data.dataset import Data
from ganzoo.data.loading import has_test_split, load
from ganzoo.sampling.draw import BLOCK, piece
from ganzoo.sampling.examples import Examples
from ganzoo.sampling.statistics import BLOCKS
from ganzoo.zoo.config import TrainConfig

SHOWN = 16
"""Examples in a run's pictures."""


def choose_examples(config: TrainConfig, data: Data) -> Examples | None:
    """Examples from the data's test part, or from the training data where there is none, spread over all of it. None
    for data without inputs."""
    if data.inputs is None:
        return None
    if "split" not in config.data_options and config.inputs is not None and has_test_split(config.data, config.inputs):
        data = load(
            config.data, config.data_dir, image_size=config.image_size, channels=config.channels,
            inputs=config.inputs, options={**config.data_options, "split": "test"},
        )  # fmt: skip
    inputs: Tensor = data.inputs  # type: ignore[assignment]  # or what is indexed like one
    few = SHOWN if piece(inputs) > 1 else SHOWN // 4
    rows = torch.linspace(0, len(inputs) - 1, min(few, len(inputs))).round().long()
    if not data.paired:
        return Examples(inputs[rows])
    labels = data.labels[rows] if config.conditional and data.labels is not None else None
    return Examples(inputs[rows], data.items[rows], labels)


def statistics_inputs(data: Data) -> Tensor | None:
    """Inputs from which the statistics of a generator are estimated; None for data without any."""
    if data.inputs is None:
        return None
    inputs: Tensor = data.inputs  # type: ignore[assignment]
    most = BLOCKS * min(BLOCK, piece(inputs))
    return inputs[torch.linspace(0, len(inputs) - 1, min(most, len(inputs))).round().long()]
