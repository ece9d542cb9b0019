"""A script as somebody outside the project wrote it for version 0.1.0. It must go on running without a change, and
print the same figures: nothing in this file follows a later version.

python stranger_script.py FOLDER    # writes into FOLDER, prints a JSON object
"""

import json
import subprocess
import sys
from pathlib import Path

import stranger_plugin
import torch

import ganzoo
from ganzoo.data import load
from ganzoo.sampling import grid, to_uint8
from ganzoo.testing import check_architecture, check_loss, check_penalty

folder = Path(sys.argv[1])
figures = {}


def keep(name, value):
    """A number, or of a tensor its mean and spread."""
    if isinstance(value, torch.Tensor) and value.dim():
        value = value.float()
        figures[f"{name}.mean"], figures[f"{name}.std"] = value.mean().item(), value.std().item()
    else:
        figures[name] = value.item() if isinstance(value, torch.Tensor) else value


def refused(error, call, *arguments, **settings):
    """Whether the call raises that error, which is a GanzooError."""
    try:
        call(*arguments, **settings)
    except error as exception:
        return isinstance(exception, ganzoo.GanzooError)
    return False


ganzoo.register(stranger_plugin)
keep("known", ganzoo.list_architectures("strang*") + ganzoo.list_losses("rel*") + ganzoo.list_penalties("slo*"))
built_in = ganzoo.list_architectures() + ganzoo.list_data() + ganzoo.list_pretrained()
keep("built in", [name in built_in for name in ("vanilla", "dcgan", "wgan_gp", "digits", "dcgan.mnist")])

# Networks, and what a seed draws.
g, d = ganzoo.create("stranger", image_size=14, channels=1, width=8, discriminator={"width": 12})
keep("config", [g.config, d.config])
rng = ganzoo.Rng(1, 2, "draws")
keep("randn", rng.randn(1000, 2))
keep("rand", rng.rand(1000))
keep("randint", rng.randint(9, 1000))

# Training: with the plugin's objective, a loss and a penalty; by class; a standard objective on three channels.
logged, steps = [], []
config = ganzoo.TrainConfig(
    "stranger", data="bars", steps=12, log_every=3, checkpoint_every=6, sample_every=6, batch_size=16, n_critic=2,
    penalties=["slope=0.5@2"], loss_options={"margin": 0.1}, objective_options={"beta": 0.25}, lr=0.002,
    lr_schedule="linear", seed=5, out=str(folder / "run"),
)  # fmt: skip
run = ganzoo.train(config, on_log=logged.append, on_step=steps.append)
assert isinstance(run, ganzoo.Run)
assert (run.step, run.interrupted, run.folder) == (12, False, folder / "run")
keep("steps", steps)
for name in ("d_loss", "g_loss", "accuracy", "slope", "real_mean", "prepared", "scale", "label", "diversity"):
    keep(f"run.{name}", [entry.get(name) for entry in logged])
run = ganzoo.train(config.replace(steps=15), resume=True)
keep("resumed", [run.step, run.metrics["d_loss"], run.metrics["g_loss"]])
classes = ganzoo.train(
    ganzoo.TrainConfig("stranger", data="bars", conditional=True, steps=4, batch_size=16, out=str(folder / "by class"))
)
keep("conditional", [classes.metrics["d_loss"], classes.metrics["g_loss"], classes.generator.config["num_classes"]])
plain = ganzoo.train(
    ganzoo.TrainConfig.from_dict(
        {
            **ganzoo.TrainConfig("plain", loss="hinge", penalties=["gp"], data="colour_bars").to_dict(),
            "steps": 4,
            "batch_size": 16,
            "pack": 2,
            "out": str(folder / "plain"),
        }
    )
)
keep("plain", [plain.metrics["d_loss"], plain.metrics["g_loss"], plain.metrics["gp"]])

# Samples and pictures.
images = ganzoo.sample(run.generator, 32, seed=3)
keep("images", images)
keep("sevens", ganzoo.sample(classes.generator, 8, labels=1))
keep("each", ganzoo.sample(classes.generator, 4, seed=1, labels=[0, 1, 1, 0]))
picture = grid(to_uint8(images), columns=8)
keep("picture", [*picture.size, picture.mode])
data = load("digits", "data", image_size=28, channels=1)
keep("digits", data.items[:100])

# Model folders.
saved = ganzoo.save_pretrained(run, folder / "model", tag="bars", license="mit", discriminator=True, name="me/bars")
for name in (
    "README.md",
    "config.json",
    "model.safetensors",
    "discriminator.safetensors",
    "samples.png",
    "test.safetensors",
):
    assert (saved / name).is_file(), name
loaded = ganzoo.from_pretrained(str(saved))
assert torch.equal(ganzoo.sample(loaded, 8), ganzoo.sample(run.generator, 8))
assert torch.equal(ganzoo.sample(ganzoo.from_pretrained(str(run.folder)), 8), ganzoo.sample(run.generator, 8))
assert (ganzoo.cards_folder() / "TEMPLATE.md").is_file()
shipped = ganzoo.from_pretrained("dcgan.mnist")
keep("shipped", ganzoo.sample(shipped, 16, seed=0))
command = [sys.executable, "-m", "ganzoo", "verify", str(ganzoo.cards_folder() / "infogan.digits")]
keep("verified", subprocess.run(command, capture_output=True).returncode)
tuned = ganzoo.TrainConfig("stranger", data="bars", start=str(saved), steps=2, batch_size=16, out=str(folder / "tuned"))
keep("tuned", ganzoo.train(tuned).metrics["d_loss"])

# Figures.
reference = ganzoo.Data(data.items[:300], labels=None if data.labels is None else data.labels[:300])
evaluator = ganzoo.Evaluator(reference, features="mnist", metrics=["fid", "prdc", "modes"], n=100, use_cache=False)
result = evaluator(shipped)
assert isinstance(result, ganzoo.Result)
keep("fid", result.values["fid"])
keep("density", result.values["density"])
keep("kl", result.values["kl"])
again = ganzoo.evaluate("dcgan.mnist", reference, features="mnist", metrics=["fid"], n=100, use_cache=False)
assert abs(again.values["fid"] - result.values["fid"]) < 1e-3 * result.values["fid"]

# The checks of a plugin's own test suite, and errors.
check_architecture("stranger", data="bars", width=4)
check_loss("relative", margin=0.5)
check_penalty(stranger_plugin.Slope)
keep(
    "refused",
    [
        refused(ganzoo.ConfigError, ganzoo.create, "stranger", image_size=15),
        refused(ganzoo.UnknownNameError, ganzoo.create, "strange"),
        refused(ganzoo.CheckpointError, ganzoo.train, config),
        refused(ganzoo.WeightsError, ganzoo.from_pretrained, str(folder)),
        refused(ganzoo.DataError, ganzoo.Data, torch.zeros(3, dtype=torch.uint8)),
        refused(ganzoo.SampleError, ganzoo.sample, loaded, 4, labels=1),
        refused(ganzoo.EvaluationError, ganzoo.Evaluator, reference, metrics=["fod"]),
        refused(ganzoo.CheckError, check_loss, ganzoo.Loss),
        refused(ganzoo.HubError, ganzoo.fetch_file, "not a name", "x"),
    ],
)
ganzoo.unregister("stranger_plugin")
keep("gone", ganzoo.list_architectures("strang*"))
print(json.dumps(figures, indent=1))
