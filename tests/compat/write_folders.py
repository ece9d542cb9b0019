"""Wrote `run/`, `model/` and what is expected of them, with version 0.1.0 (commit e8ed868). Run it again only to add
something, and with that commit: PYTHONPATH=CHECKOUT:CHECKOUT/plugins python write_folders.py"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import ganzoo
from ganzoo.data import load

here = Path(__file__).parent
os.chdir(here)
torch.set_num_threads(1)
for name in ("run", "model", "resumed"):
    shutil.rmtree(name, ignore_errors=True)
config = ganzoo.TrainConfig(
    "vanilla", image_size=14, generator={"hidden": [8], "z_dim": 8}, discriminator={"hidden": [8]}, penalties=[],
    steps=20, batch_size=32, log_every=5, precision="fp32", out="run",
)  # fmt: skip
run = ganzoo.train(config, on_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 13 else None)
assert (run.step, run.interrupted) == (14, True)
ganzoo.save_pretrained(run, "model", license="mit", discriminator=True)
command = [sys.executable, "-m", "ganzoo", "eval", "./model", "--data", "digits", "--features", "mnist"]
subprocess.run([*command, "--metrics", "fid", "-n", "200", "--record"], check=True)

shutil.copytree("run", "resumed")
resumed = ganzoo.train(config.replace(out="resumed"), resume=True)
shutil.rmtree("resumed")
tensors = {"samples of the run": ganzoo.sample(run.generator, 4, seed=1)}
tensors["samples of the model"] = ganzoo.sample(ganzoo.from_pretrained("./model"), 4, seed=1)
for part, network in (("ema", resumed.generator), ("d", resumed.discriminator)):
    tensors |= {f"{part}.{key}": value.contiguous() for key, value in network.state_dict().items()}
save_file(tensors, "folder_tensors.safetensors")
digits = ganzoo.Data(load("digits", image_size=14, channels=1).items[:300])
figures = {
    "resumed": {key: resumed.metrics[key] for key in ("step", "d_loss", "g_loss", "accuracy")},
    "fid of the model": ganzoo.evaluate("./model", digits, features="mnist", metrics=["fid"], n=100).values["fid"],
    "fid of the run": ganzoo.evaluate("./run", digits, features="mnist", metrics=["fid"], n=100).values["fid"],
}
Path("folder_figures.json").write_text(json.dumps(figures, indent=2) + "\n")
