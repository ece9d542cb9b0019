"""The check of an architecture on two processes."""

import copy
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo.errors import CheckError
from ganzoo.rng import seed_torch
from ganzoo.testing.report import explaining, require
from ganzoo.testing.subject import CPU, Subject
from ganzoo.training.loop import train
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry


def check_processes(subject: Subject, folder: Path) -> None:
    """A training step on two processes gives the same weights on both. They are also those of a step on one process,
    if each output depends only on its own item and nothing draws from torch's own generator."""
    require(
        not registry().architecture(subject.name).plugin.startswith("in-process:"),
        f"{subject.name} is registered only in this process: install its package to use processes=True",
    )
    once = {"steps": 1, "optimizer": "sgd", "betas": [0.0, 0.0], "lr": 0.1, "d_lr": None, "precision": "fp32"}
    config = subject.config.replace(**once, accumulate=1)
    _launch(config.replace(out=str(folder / "two")), folder, subject.name)
    first, second = (load_file(folder / f"rank-{rank}.safetensors") for rank in (0, 1))
    for key, value in first.items():
        require(
            torch.equal(value, second[key]),
            f"{subject.name} on two processes: {key!r} differs between them after a step: nothing in it may "
            "depend on the process, its time or its own random numbers",
        )
    if not _independent(subject):
        return
    seed_torch(0, CPU)
    with explaining(f"{subject.name} does not train"):
        whole = _tensors(train(config.replace(out=str(folder / "one"))))
    for key, value in first.items():
        require(
            torch.allclose(value, whole[key], rtol=1e-3, atol=1e-5),
            f"{subject.name} on two processes learns another {key!r} than on one: draw one row for each item from "
            "batch.rng, and compute statistics of the whole batch from batch.whole_real()",
        )


def _independent(subject: Subject) -> bool:
    """Whether each output depends only on its own item, except through BatchNorm, which the trainer synchronises."""
    for role, module, x in subject.networks_with_inputs():
        network = copy.deepcopy(module).train()
        for layer in network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        whole, half = subject.run(role, network, x), subject.run(role, network, x[: len(x) // 2])
        with torch.no_grad():
            torch.manual_seed(1)
            other = subject.call(network, x)
        if not torch.allclose(whole[: len(half)], half, atol=1e-4) or not torch.equal(whole, other):
            return False
    return True


def _tensors(run: Any) -> dict[str, Tensor]:
    """The tensors of a run's networks after training, by "role.name"."""
    return {
        f"{role}.{key}": value.detach().clone(memory_format=torch.contiguous_format)
        for role, module in (("generator", run.raw_generator), ("discriminator", run.discriminator))
        for key, value in module.state_dict().items()
    }


def _launch(config: TrainConfig, folder: Path, name: str) -> None:
    """Train on two processes over gloo, as torchrun starts them. Each writes rank-K.safetensors into `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", "from ganzoo.testing.processes import _worker; _worker()"]
    command += [json.dumps(config.to_dict()), str(folder)]
    logs = [folder / f"rank-{rank}.log" for rank in (0, 1)]
    processes = []
    for rank, log in enumerate(logs):
        with open(log, "w") as file:
            variables = {**environment, "WORLD_SIZE": "2", "RANK": str(rank)}
            processes.append(subprocess.Popen(command, env=variables, stdout=file, stderr=file))
    try:
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            time.sleep(0.05)
    finally:
        for process in processes:  # if one has failed, the other waits for it
            process.kill()
            process.wait()
    for code, log in zip(codes, logs, strict=True):
        if code:
            cause = (log.read_text(errors="replace").strip().splitlines() or [f"exit code {code}, no output"])[-1]
            raise CheckError(f"{name} does not train on two processes: {cause}")


def _worker() -> None:
    """The main function of one of these processes."""
    torch.set_num_threads(1)
    tensors = _tensors(train(TrainConfig.from_dict(json.loads(sys.argv[1]))))
    save_file(tensors, Path(sys.argv[2]) / f"rank-{os.environ['RANK']}.safetensors")
