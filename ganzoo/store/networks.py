"""The networks of a run, from its checkpoints, which may be damaged as well as those of a model folder."""

from pathlib import Path
from typing import Any, Literal

from torch import nn

from ganzoo.errors import CheckpointError, WeightsError
from ganzoo.sampling.classes import name_classes
from ganzoo.sampling.sound import set_rate
from ganzoo.store.models import Role, compare_tensors, outline, tensor_facts
from ganzoo.store.runs import STATE, Checkpoint, open_run
from ganzoo.zoo.networks import network


def load_run(folder: Path, part: Literal["ema", "generator"] = "ema") -> nn.Module:
    """The averaged generator of a run's newest checkpoint, or the raw one, in evaluation mode on the CPU.

    Args:
        folder: the run's, or that of one of its checkpoints.
        part: which of the two.

    Raises:
        CheckpointError: not a run folder, no whole checkpoint in it yet, or tensors that do not fit the settings.
    """
    return checkpoint_network(open_run(folder)[1], "generator", part).eval()


def checkpoint_network(
    checkpoint: Checkpoint, role: Role, part: Literal["ema", "generator", "discriminator"]
) -> nn.Module:
    """Build a network by the settings in a checkpoint, and load its tensors. They are compared before any memory is
    taken.

    Args:
        checkpoint: the checkpoint.
        role: the kind of network.
        part: the name of its tensors in the checkpoint.

    Raises:
        CheckpointError: the settings are refused, or the tensors do not fit them.
    """
    model, tensors = checkpoint.state["model"], checkpoint.part(part)
    try:
        expected = outline(model["architecture"], role, model[role], STATE)
        compare_tensors(tensor_facts(tensors), tensor_facts(expected), f"its {part}")
    except WeightsError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is damaged: {error}. Name another one beside it, if there is one"
        ) from error
    module: Any = network(model["architecture"], role, {}, model[role])
    module.load_state_dict(tensors)
    if role == "generator":
        name_classes(module, model.get("classes"))
        set_rate(module, model.get("rate"))
    return module  # type: ignore[no-any-return]
