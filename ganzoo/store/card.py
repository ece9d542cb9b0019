"""The model card: Markdown with metadata, rendered from the template in model_cards/."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ganzoo.store.results import Result, but_seed
from ganzoo.zoo.command import assignment, train_command
from ganzoo.zoo.plugins import registry

TEMPLATE = "TEMPLATE.md"
TASK, TRANSLATION = "unconditional-image-generation", "image-to-image"
"""The Hub's names for what images are made by. It has none for sounds that follow no text."""
LISTED = 50
"""Names of classes that a card lists."""
SNIPPET = re.compile(r'from_pretrained\("([^"\n]*)"\)')


def cards_folder() -> Path:
    """The folder model_cards/: inside the package if that was installed from a wheel, beside it in a checkout."""
    here = Path(__file__).parent.parent
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
    half: bool = False,
    unbounded: bool = False,
    inputs: tuple[int, ...] | None = None,
) -> str:
    """Render a model's README.md.

    Args:
        model: the content of its config.json.
        training: the content of its training.json, which for imported weights says where they come from; or empty.
        name: the SOURCE that loads it.
        license: the licence of the weights, as the Hub spells it; empty: not stated.
        parameters: the number of the generator's parameters.
        shape: the shape of one item.
        picture: the name of the grid of samples; empty without one.
        half: whether the weights are rounded to fp16.
        unbounded: whether its values may leave [-1, 1].
        inputs: the shape of one input of a generator that translates; None: it starts from latents alone.
    """
    from huggingface_hub import ModelCard

    config = training.get("config", {})
    data = config.get("data", "")
    names = model.get("classes") or []
    card = ModelCard.from_template(
        _metadata(model, license, data, TASK if inputs is None else TRANSLATION),
        template_str=(cards_folder() / TEMPLATE).read_text(encoding="utf-8"),
        name=f"{model['architecture']}.{model['tag']}",
        source=name,
        architecture=model["architecture"],
        paper=getattr(registry().architectures.get(model["architecture"]), "paper", ""),
        package=model["requires"].get("package", ""),
        package_version=model["requires"].get("version", ""),
        settings=json.dumps(model["generator"]),
        parameters=f"{parameters:,}",
        shape=shape,
        picture=picture,
        half=half,
        unbounded=unbounded,
        inputs=inputs,
        paired=config.get("data_options", {}).get("paired") is not False,
        rate=model.get("rate"),
        classes=model["generator"].get("num_classes"),
        some_class=json.dumps(min(reversed(names), key=len)) if names else "",  # a short one, for a short line
        class_list=_class_list(names),
        data_name=data,
        data_license=getattr(registry().data.get(data), "license", ""),
        weights_license=license,
        training=training,
        command=train_command(config) if config else "",
    )
    return str(card).rstrip() + "\n"


def _metadata(model: Mapping[str, Any], license: str, data: str, task: str) -> Any:
    from huggingface_hub import ModelCardData

    return ModelCardData(
        library_name="ganzoo",
        pipeline_tag=None if "rate" in model else task,
        license=license or None,
        datasets=[data] if data in registry().data else None,
        tags=["ganzoo", "gan", model["architecture"], *(["audio"] if "rate" in model else [])],
    )


def _class_list(names: Sequence[str]) -> str:
    """The names of classes as Markdown, in which none of them is markup."""
    listed = ", ".join(re.sub(r'([\\`*_\[\]<>|~"&$])', r"\\\1", name) for name in names[:LISTED])
    return listed + (f" and {len(names) - LISTED} more, in `config.json`" if len(names) > LISTED else "")


def with_scores(text: str, results: Sequence[Result]) -> str:
    """The card with these results, and no others, in its metadata and under "Scores"."""
    from huggingface_hub import EvalResult, ModelCard

    groups: dict[str, list[Result]] = {}  # results that differ only in the seed
    for result in results:
        groups.setdefault(but_seed(result.protocol), []).append(result)
    source = source_name(text)
    paragraphs, metadata = [], []
    for group in groups.values():
        paragraphs += [_command(source, group), _score_table(group), _conditions(group)]
        protocol = group[0].protocol
        data, features, n = protocol["data"], protocol["features"]["name"], protocol["generated"]["n"]
        metadata += [
            EvalResult(
                task_type=TRANSLATION if "inputs" in protocol else TASK,
                dataset_type=data,
                dataset_name=data,
                metric_type=name,
                metric_value=round(mean(result.values[name] for result in group), 6),
                metric_config=f"{features} features, {n} samples, {protocol['reference']['n']} images of {data}",
            )
            for name in _figures(group[0])
        ]
    card = ModelCard(text)
    card.data["model_name"] = text.partition("\n# ")[2].partition("\n")[0]
    card.data["eval_results"] = metadata
    section = "## Scores\n\n" + "\n\n".join(paragraphs) + "\n\n"
    return re.sub(r"^## Scores\n.*?(?=^## )", lambda _: section, str(card), flags=re.MULTILINE | re.DOTALL)


def _figures(result: Result) -> list[str]:
    return [name for name in result.values if not name.endswith(("_perfect", "_std"))]


def _command(source: str, group: Sequence[Result]) -> str:
    protocol = group[0].protocol
    features, generated = protocol["features"]["name"], protocol["generated"]
    command = f"ganzoo eval {source} --data {protocol['data']} --metrics {','.join(group[0].metrics)}"
    if "split" in protocol:
        command += f" --split {protocol['split']}"
    if spec := protocol.get("inputs", {}).get("spec"):
        command += f" --inputs {shlex.quote(spec)}"
    of_data = {f"data.{name}": value for name, value in protocol.get("data_options", {}).items()}
    for name, value in (of_data | generated.get("options", {})).items():
        command += f" --set {shlex.quote(assignment(name, value))}"
    if (held_out := protocol.get("held_out", {}).get("data", protocol["data"])) != protocol["data"]:
        command += f" --held-out {held_out}"
    precision = protocol["features"].get("precision", "fp32")
    command += f" --features {features}" + (f" --precision {precision}" if precision != "fp32" else "")
    return f"```\n{command} -n {generated['n']} --seed {generated['seed']}\n```"


def _score_table(group: Sequence[Result]) -> str:
    """A table with a row for each figure: its mean over the group, its floor, and that of a trivial answer."""
    first, floor = group[0], group[0].floor or {}
    n = first.protocol["generated"]["n"]
    columns = {first.floor_images: floor, first.baseline_name: first.baseline or {}}
    columns = {title: figures for title, figures in columns.items() if title}
    rows = ["| | " + " | ".join([f"{n:,} samples", *columns]) + " |", "|---|---:" + "|---:" * len(columns) + "|"]
    for name in _figures(first):
        values = [result.values[name] for result in group]
        cell = f"{mean(values):.4g}" + (f" ± {stdev(values):.1g}" if len(group) > 1 else "")
        if name == "fid" and floor.get("fid"):
            cell += f" ({mean(values) / floor['fid']:.1f} x floor)"
        if f"{name}_perfect" in first.values:
            cell += f" (perfect {first.values[f'{name}_perfect']:.4g})"
        others = (f" {figures[name]:.4g} |" if name in figures else " |" for figures in columns.values())
        rows.append(f"| {name} | {cell} |" + "".join(others))
    return "\n".join(rows)


def _conditions(group: Sequence[Result]) -> str:
    protocol = group[0].protocol
    seeds = ", ".join(str(result.protocol["generated"]["seed"]) for result in group)
    spread = f"latents of seed {seeds}"
    if len(group) > 1:
        spread = f"mean and standard deviation over latents of the seeds {seeds}"
    made = ""
    if inputs := protocol.get("inputs"):
        part = f" of its {inputs['split']} part" if "split" in inputs else ""
        made = f", made from {protocol['generated']['n']:,} of {inputs['n']:,} inputs{part}"
    if options := protocol["generated"].get("options"):
        made += ", with " + ", ".join(assignment(name, value) for name, value in options.items())
    return (
        f"Against {protocol['reference']['n']:,} images of {protocol['data']}{made}; {spread}. `scores.json` holds the "
        "whole protocol, and can stand beside other sources in `ganzoo eval`."
    )


def rename_source(text: str, name: str) -> str:
    """The card with `name` as the SOURCE in its snippet and commands."""
    text = SNIPPET.sub(f'from_pretrained("{name}")', text)
    return re.sub(r"^ganzoo eval \S+", f"ganzoo eval {name}", text, flags=re.MULTILINE)


def source_name(text: str) -> str:
    """The SOURCE in the card's snippet."""
    (name,) = SNIPPET.findall(text)
    return str(name)


def card_license(text: str) -> str:
    """The licence in a card's metadata; empty if there is none."""
    from huggingface_hub import ModelCard

    return str(ModelCard(text).data.get("license") or "")


def relicense(text: str, license: str) -> str:
    """The card with `license` as the licence of the weights."""
    from huggingface_hub import ModelCard

    card = ModelCard(text)
    card.data["license"] = license
    return re.sub(r"^Weights: .*?\. Data", f"Weights: {license}. Data", str(card), flags=re.MULTILINE)
