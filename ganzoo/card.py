"""The model card: Markdown with metadata, from the template in model_cards/."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ganzoo.plugins import registry
from ganzoo.results import Result

TEMPLATE = "TEMPLATE.md"
FLAGS = ("data", "steps", "batch_size", "image_size", "channels", "loss", "lr", "seed", "pack", "eval_every")
"""Settings that have a flag of their own name."""
TASK = "unconditional-image-generation"
SNIPPET = re.compile(r'from_pretrained\("([^"\n]*)"\)')


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
    from huggingface_hub import ModelCard, ModelCardData

    config = training.get("config", {})
    data = config.get("data", "")
    source = registry().data.get(data)
    full_name = f"{model['architecture']}.{model['tag']}"
    card_data = ModelCardData(
        library_name="ganzoo",
        pipeline_tag=TASK,
        license=license or None,
        datasets=[data] if source else None,
        tags=["ganzoo", "gan", model["architecture"]],
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
        classes=model["generator"].get("num_classes"),
        data_name=data,
        data_license=source.license if source else "",
        weights_license=license,
        training=training,
        command=train_command(config) if config else "",
        minutes=f"{training['seconds'] / 60:.1f}" if "seconds" in training else "",
    )
    return str(card).rstrip() + "\n"


def with_scores(text: str, results: Sequence[Result]) -> str:
    """The card with these results in its metadata and under "Scores", in place of what is there."""
    from huggingface_hub import EvalResult, ModelCard

    alike: dict[str, list[Result]] = {}
    for result in results:
        generated = {**result.protocol["generated"], "seed": None}
        alike.setdefault(json.dumps({**result.protocol, "generated": generated}), []).append(result)
    source = source_name(text)
    told, measured = [], []
    for group in alike.values():
        protocol, floor = group[0].protocol, group[0].floor or {}
        data, features, n = protocol["data"], protocol["features"]["name"], protocol["generated"]["n"]
        rows = [f"| | {n:,} samples | {floor['n']:,.0f} test images |" if floor else f"| | {n:,} samples |"]
        rows += ["|---|---:|---:|" if floor else "|---|---:|"]
        for name in group[0].values:
            if name.endswith(("_perfect", "_std")):
                continue
            values = [result.values[name] for result in group]
            cell = f"{mean(values):.4g}" + (f" ± {stdev(values):.1g}" if len(group) > 1 else "")
            if name == "fid" and floor:
                cell += f" ({mean(values) / floor['fid']:.1f} x floor)"
            if f"{name}_perfect" in group[0].values:
                cell += f" (perfect {group[0].values[f'{name}_perfect']:.4g})"
            rows.append(f"| {name} | {cell} |" + (f" {floor[name]:.4g} |" if name in floor else " |" if floor else ""))
            kind = f"{features} features, {n} samples, {protocol['reference']['n']} images of {data}"
            measured.append(
                EvalResult(
                    task_type=TASK, dataset_type=data, dataset_name=data, metric_type=name,
                    metric_value=round(mean(values), 6), metric_config=kind,
                )
            )  # fmt: skip
        seeds = [result.protocol["generated"]["seed"] for result in group]
        command = (
            f"ganzoo eval {source} --data {data} --metrics {','.join(group[0].metrics)} --features {features} -n {n}"
        )
        told += [f"```\n{command} --seed {seeds[0]}\n```", "\n".join(rows)]
        told_seeds = ", ".join(map(str, seeds))
        spread = f"latents of seed {told_seeds}"
        if len(seeds) > 1:
            spread = f"mean and standard deviation over latents of the seeds {told_seeds}"
        told.append(
            f"Against {protocol['reference']['n']:,} images of {data}; {spread}. `scores.json` holds the whole "
            "protocol, and can stand beside other sources in `ganzoo eval`."
        )
    card = ModelCard(text)
    card.data["model_name"] = text.partition("\n# ")[2].partition("\n")[0]
    card.data["eval_results"] = measured
    section = "## Scores\n\n" + "\n\n".join(told) + "\n\n"
    return re.sub(r"^## Scores\n.*?(?=^## )", lambda _: section, str(card), flags=re.MULTILINE | re.DOTALL)


def rename_source(text: str, name: str) -> str:
    """The card with its snippet and commands loading `name` instead."""
    text = SNIPPET.sub(f'from_pretrained("{name}")', text)
    return re.sub(r"^ganzoo eval \S+", f"ganzoo eval {name}", text, flags=re.MULTILINE)


def source_name(text: str) -> str:
    """What the card's snippet loads."""
    (name,) = SNIPPET.findall(text)
    return str(name)


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
        elif value is True and key in ("flip", "conditional"):
            words += [f"--{key}"]
        elif key in FLAGS:
            words += [f"--{key.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{key}={_spelt(value)}"]
    return shlex.join(words)


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
