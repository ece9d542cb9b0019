"""The model card: Markdown with metadata, from the template in model_cards/."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.plugins import registry

TEMPLATE = "TEMPLATE.md"


def cards_folder() -> Path:
    """Where model_cards/ is: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    inside = here / "model_cards"
    return inside if inside.is_dir() else here.parent / "model_cards"


def render_card(
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    name: str,
    license: str,
    parameters: int,
    shape: tuple[int, ...],
    picture: str,
) -> str:
    """A model's README.md.

    Args:
        model: what its config.json holds.
        training: what its training.json holds; empty for imported weights.
        name: what people load it by.
        license: of the weights, as the Hub spells it; empty: not stated.
        parameters: of the generator.
        shape: of one item.
        picture: the file of samples, if there is one.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    config = training.get("config", {})
    data = config.get("data", "")
    source = registry().data.get(data)
    scores = training.get("scores", [])
    full_name = f"{model['architecture']}.{model['tag']}"
    card_data = ModelCardData(
        library_name="ganzoo",
        pipeline_tag="unconditional-image-generation",
        license=license or None,
        datasets=[data] if source else None,
        tags=["ganzoo", "gan", model["architecture"]],
        model_name=full_name if scores else None,
        eval_results=[
            EvalResult(
                task_type="unconditional-image-generation",
                dataset_type=score["data"],
                dataset_name=score["data"],
                metric_type=score["metric"],
                metric_value=score["value"],
                metric_config=score["protocol"],
            )
            for score in scores
        ]
        or None,
    )
    entry = registry().architectures.get(model["architecture"])
    card = ModelCard.from_template(
        card_data,
        template_str=(cards_folder() / TEMPLATE).read_text(encoding="utf-8"),
        name=full_name,
        source=name,
        architecture=model["architecture"],
        paper=entry.paper if entry else "",
        package=model["requires"].get("package", ""),
        package_version=model["requires"].get("version", ""),
        settings=json.dumps(model["generator"]),
        parameters=f"{parameters:,}",
        shape=shape,
        picture=picture,
        data_name=data,
        data_license=source.license if source else "",
        weights_license=license,
        training=training,
        command=train_command(config) if config else "",
        minutes=f"{training['seconds'] / 60:.1f}" if "seconds" in training else "",
        scores=scores,
    )
    return str(card).rstrip() + "\n"


def rename_source(text: str, name: str) -> str:
    """The card with its snippet loading `name` instead."""
    return re.sub(r'from_pretrained\("[^"\n]*"\)', f'from_pretrained("{name}")', text)


def card_license(text: str) -> str:
    """The licence in a card's metadata; empty if it states none."""
    from huggingface_hub import ModelCard

    return str(ModelCard(text).data.get("license") or "")


def relicense(text: str, license: str) -> str:
    """The card with another licence of the weights."""
    from huggingface_hub import ModelCard

    card = ModelCard(text)
    card.data["license"] = license
    return re.sub(r"^Weights: .*?\. Data", f"Weights: {license}. Data", str(card), flags=re.MULTILINE)


def train_command(config: Mapping[str, Any]) -> str:
    """The `ganzoo train` command that gives this configuration."""
    from ganzoo.config import TrainConfig

    base = TrainConfig(config["architecture"], recipe=config["recipe"]).to_dict()
    words = ["ganzoo", "train", config["architecture"]]
    if config["recipe"] != "default":
        words += ["--recipe", config["recipe"]]
    dotted = {"generator": "generator", "discriminator": "discriminator", "loss_options": "loss"}
    dotted |= {"objective_options": "objective", "data_options": "data"}
    for key, value in config.items():
        if value == base.get(key) or value is None or key in ("precision", "device", "data_dir"):
            continue
        if key == "penalties":
            words += [word for spec in value or ["none"] for word in ("--penalty", spec)]
        elif key in dotted:
            for inner, setting in value.items():
                if base[key].get(inner) != setting:
                    words += ["--set", f"{dotted[key]}.{inner}={_spelt(setting)}"]
        elif key in ("data", "steps", "batch_size", "image_size", "channels", "loss", "lr", "seed"):
            words += [f"--{key.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{key}={_spelt(value)}"]
    return shlex.join(words)


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
