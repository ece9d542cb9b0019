"""One process of a distributed test: trains each named case in float64 by plain SGD and saves what it learned.

WORLD_SIZE=… RANK=… python worker.py OUT CASE…
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import ganzoo
import tiny
from ganzoo import rng
from ganzoo.data.dataset import Batches
from ganzoo.training import recorder

LOSSES = ("hinge", "lsgan", "minimax", "nonsaturating", "rpgan", "wasserstein")
PENALTIES = ("none", "dragan", "gp", "r1", "r2")
SGD = {"optimizer": "sgd", "betas": [0.5, 0.0], "steps": 20, "lr": 0.01, "seed": 3, "batch_size": 16, "log_every": 10}
POINTS = {"architecture": "tiny", "data": "gaussian", "n_critic": 2}
DIGITS = {"architecture": "vanilla", "data": "digits", "flip": True}
DIGITS |= {"generator": {"hidden": 8, "norm": None}, "discriminator": {"hidden": 8}}

CASES = {
    f"{loss}-{penalty}": {**POINTS, "loss": loss, "penalties": [] if penalty == "none" else [f"{penalty}@2"]}
    for loss in LOSSES
    for penalty in PENALTIES
}
CASES["images"] = DIGITS
SMALL = {"generator": {"width": 4, "hidden": 8, "z_dim": 4}, "discriminator": {"width": 4, "hidden": 8}}
CASES["infogan"] = {"architecture": "infogan", "data": "digits", "image_size": 14, **SMALL}
CASES["vaegan"] = {"architecture": "vaegan", "data": "digits", "image_size": 14, **SMALL}
CASES["cyclegan"] = {
    "architecture": "cyclegan", "data": "digits", "image_size": 16, "inputs": "grey", "lr": 1e-3,
    "lr_schedule": "constant", "generator": {"width": 4, "blocks": 1}, "discriminator": {"width": 4, "layers": 2},
    # At higher rates and weights G is flat at first, and InstanceNorm of flat images magnifies rounding.
    "objective_options": {"pool": 32, "cycle": 1.0},
}  # fmt: skip
NARROW = {"generator": {"width": 4}, "discriminator": {"width": 4}}
CASES["pix2pix"] = {"architecture": "pix2pix", "data": "digits", "image_size": 16, "inputs": "edges", **NARROW}
CASES["srgan"] = {
    "architecture": "srgan", "data": "digits", "image_size": 16, "inputs": "smaller=2", "recipe": "digits",
    "generator": {"width": 4, "blocks": 1}, "discriminator": {"width": 4, "hidden": 8},
}  # fmt: skip
CASES["ada"] = {**DIGITS, "augment": ["ada"], "augment.images": 400, "augment.target": 0.1, "penalties": ["r1"]}
CASES["batchnorm"] = {**POINTS, "generator": {"norm": True}, "penalties": ["r1"]}
CASES["batchnorm-d"] = {**POINTS, "discriminator": {"norm": True}, "penalties": ["gp=0.1"]}
CASES["batchnorm-joint"] = {**CASES["batchnorm-d"], "objective.joint": True, "loss": "rpgan"}
SABOTAGED = ("duplicate-slices", "own-epsilon", "own-deviation")
CASES["duplicate-slices"] = CASES["nonsaturating-none"]
CASES["own-epsilon"] = CASES["nonsaturating-gp"]
CASES["own-deviation"] = CASES["nonsaturating-dragan"]


def sabotage(case: str, patch) -> None:
    """Break one thing about splitting a batch."""
    if case == "duplicate-slices":
        get = Batches.get
        patch(Batches, "get", lambda self, k, part=0, parts=1: get(self, k, 0, parts))
    elif case == "own-epsilon":
        own = rng.Rng.rand

        def separate(self, n, *shape):
            self.generator.manual_seed(self.part)
            return own(self, n, *shape)

        patch(rng.Rng, "rand", separate)
    elif case == "own-deviation":
        patch(ganzoo.Batch, "whole_real", lambda self: self.real)


def main(out: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    ganzoo.register(tiny)
    vars(recorder)["save_pretrained"] = lambda run, folder, **_: folder.mkdir()  # published weights are float32
    for case in cases:
        name, *settings = case.split(":")  # NAME[:accumulate=2[:steps=10]...]
        undo: list[tuple[Any, str, Any]] = []

        def patch(owner, attribute, value, undo=undo):
            undo.append((owner, attribute, getattr(owner, attribute)))
            setattr(owner, attribute, value)

        sabotage(name, patch)
        chosen: dict[str, Any] = {"out": str(out / "runs" / name), **SGD, **CASES[name]}
        resume = False
        for setting in settings:
            key, _, value = setting.partition("=")
            resume = resume or key == "resume"
            if key != "resume":
                chosen[key] = int(value) if value.isdigit() else value
        run = ganzoo.train(ganzoo.TrainConfig(**chosen), resume=resume)
        for owner, attribute, value in undo:
            setattr(owner, attribute, value)
        learned = {
            f"{role}.{key}": value.contiguous()
            for role, module in (("g", run.raw_generator), ("ema", run.generator), ("d", run.discriminator))
            for key, value in module.state_dict().items()
        }
        for key in ("d_loss", "g_loss", "accuracy"):
            learned[key] = torch.tensor(run.metrics[key])
        if os.environ.get("RANK", "0") == "0":
            save_file(learned, out / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
