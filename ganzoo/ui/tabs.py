"""The tabs of the workshop, each for one thing to do with a generator. A generator has those that fit it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from torch import nn

from ganzoo.latent.directions import Directions, directions
from ganzoo.latent.latents import has_styles
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import class_count
from ganzoo.sampling.examples import side_by_side
from ganzoo.sampling.options import call_options, option_choices, takes_inputs
from ganzoo.sampling.pictures import to_uint8
from ganzoo.sampling.sound import rate_of
from ganzoo.ui import work
from ganzoo.ui.offers import settings
from ganzoo.zoo.command import parse_assignment

if TYPE_CHECKING:
    from ganzoo.ui.page import Values, Workshop

SLIDERS = 6
"""Directions that have a slider."""
REACH = 4.0
"""Standard deviations from the middle of a slider to its ends."""
IN_TURN = "all classes in turn"
MAKE = ("the pictures are inputs", "edges", "grey", "masked", "smaller=4")
FEATURES = {"pixels": "none", "digits": "mnist", "photographs (fetches 18 MB the first time)": "auto"}


def build(shop: "Workshop", source: str) -> None:
    """The tabs for a generator that was loaded."""
    g = shop.offers.load(source)
    if takes_inputs(g):
        Bench(shop, source, g).translate()
        return
    bench = Bench(shop, source, g)
    image = rate_of(g) is None and "image_size" in settings(g)
    with gr.Tab("Samples", render_children=True):
        bench.samples()
    with gr.Tab("Directions", render_children=True):
        bench.directions()
    if image:
        with gr.Tab("Walk", render_children=True):
            bench.walk()
        with gr.Tab("Your picture", render_children=True):
            bench.invert()
    with gr.Tab("Side by side", render_children=True):
        bench.compare()


@dataclass(frozen=True)
class Fields:
    """The fields for what a generator's call takes: a class, and its call options by name."""

    g: nn.Module
    label: Any
    options: dict[str, Any]

    @property
    def components(self) -> set[Any]:
        """All of them."""
        return {*self.options.values(), *([] if self.label is None else [self.label])}

    def read(self, values: "Values") -> tuple[int | None, dict[str, Any]]:
        """The class, if one was chosen, and the options that differ from their defaults."""
        label = None if self.label is None or values[self.label] == IN_TURN else int(values[self.label])
        chosen: dict[str, Any] = {}
        for name, default in call_options(self.g).items():
            value = values[self.options[name]]
            if isinstance(value, str) and not option_choices(self.g, name):
                value = default if not value.strip() else parse_assignment(f"{name}={value.strip()}")[1]
            if value not in (default, "" if default is None else default, None):
                chosen[name] = value
        return label, chosen


def fields(g: nn.Module, *, in_turn: bool = True) -> Fields:
    """Fields for the class and for every call option of a generator."""
    label = _class_field(g, in_turn=in_turn)
    return Fields(g, label, {name: _option_field(g, name, default) for name, default in call_options(g).items()})


def _class_field(g: nn.Module, *, in_turn: bool) -> Any:
    count = class_count(g)
    if count is None:
        return None
    names = class_names(g) or [f"class {number}" for number in range(count)]
    choices = [*([(IN_TURN, IN_TURN)] if in_turn else []), *((name, str(i)) for i, name in enumerate(names))]
    return gr.Dropdown(choices, value=choices[0][1], label="Class")


def _option_field(g: nn.Module, name: str, default: Any) -> Any:
    """A field for one call option: a list of its values, a box to tick, a number, or a text."""
    if choices := option_choices(g, name):
        listed = [(f"{choice}", choice) for choice in choices]
        first = [("default", "")] if default is None else []
        return gr.Dropdown([*first, *listed], value="" if default is None else default, label=name)
    if isinstance(default, bool):
        return gr.Checkbox(default, label=name)
    if isinstance(default, int | float):
        step = 1 if isinstance(default, int) else 0.05
        return gr.Number(default, label=name, step=step, info=f"default {default}")
    return gr.Textbox("", label=name, info=f"default {default}, which stands if this is empty")


def _number(label: str, value: int, most: int, least: int = 0, info: str | None = None) -> Any:
    return gr.Number(value, label=label, precision=0, minimum=least, maximum=most, info=info)


def _downloads(name: str) -> Any:
    """A list of files to download, which appears with the first of them."""
    return gr.File(label="Download", file_count="multiple", interactive=False, visible=False, elem_id=name)


def _offered(paths: Sequence[Path]) -> Any:
    return gr.File([str(path) for path in paths], visible=True)


class Bench:
    """The tabs of one generator, and what they share: the samples that were drawn last.

    Args:
        shop: the page.
        source: the generator's name on it.
        g: the generator.
    """

    def __init__(self, shop: "Workshop", source: str, g: nn.Module) -> None:
        self.shop, self.source, self.g = shop, source, g
        self.drawn = gr.State()
        self.gallery: Any = None
        self.files: Any = None

    def _run(self, text: str, work: Any, inputs: set[Any], outputs: list[Any], what: str) -> None:
        """A button that starts a job, and one that stops it."""
        with gr.Row():
            go = gr.Button(text, variant="primary", scale=3)
            stop = gr.Button("Stop", scale=1, min_width=80)
        self._on(go.click, work, inputs, outputs, what, trigger_mode="multiple")
        stop.click(self.shop.stop, queue=False, api_visibility="private", show_progress="hidden")

    def _on(self, event: Any, work: Any, inputs: set[Any], outputs: list[Any], what: str, **settings: Any) -> None:
        def generators(values: "Values") -> list[nn.Module]:
            others = [values[field] for field in inputs if getattr(field, "elem_id", None) == "other"]
            return [self.g, *(self.shop.offers.load(name) for name in others if name)]

        event(
            self.shop.job(work, generators, what), inputs, outputs, concurrency_id="turn", concurrency_limit=1,
            api_visibility="private", **settings,
        )  # fmt: skip

    def _show(self, drawn: work.Drawn) -> tuple[work.Drawn, list[tuple[Any, str]], Any]:
        """Samples as the state, the gallery and the files for download."""
        names = class_names(self.g)
        labels = None if drawn.latents is None else drawn.latents.labels
        shown = work.pictures(self.g, drawn.items)
        captions = [str(i) for i in range(len(shown))]
        if labels is not None and len(shown) == len(labels):
            captions = [f"{i} · {names[k] if names else k}" for i, k in enumerate(labels.tolist())]
        files = work.write(self.g, drawn, self.shop.new_folder())
        return drawn, list(zip(shown, captions, strict=True)), _offered(files)

    def samples(self) -> None:
        """Draw samples of a seed."""
        with gr.Row():
            seed = _number("Seed", 0, 2**31)
            n = _number("Number", 16, work.AT_MOST, 1)
            own = fields(self.g)
        buttons = gr.Group()
        self.gallery = gr.Gallery(
            label="Samples", show_label=False, columns=8, format="png", elem_classes="pictures", elem_id="samples", object_fit="contain",
            height="auto", interactive=False, buttons=["fullscreen"],
        )  # fmt: skip
        self.files = _downloads("files")

        def draw(values: "Values") -> Any:
            label, options = own.read(values)
            return self._show(work.draw(self.g, int(values[n] or 0), int(values[seed] or 0), label, options))

        with buttons:
            self._run(
                "Draw", draw, {seed, n, *own.components}, [self.drawn, self.gallery, self.files], "Drawing samples"
            )

    def directions(self) -> None:
        """Move a sample along directions of latent space, each of which has a slider."""
        gr.Markdown("Draw samples first. Each slider moves one of them along a direction that was found in the weights.")
        with gr.Row():
            number = _number("Sample", 0, work.AT_MOST - 1)
            ways = ["factorise", "components"] if has_styles(self.g) else ["factorise"]
            method = gr.Dropdown(ways, value=ways[0], label="How directions are found")
        with gr.Row():
            with gr.Column():
                sliders = [
                    gr.Slider(-REACH, REACH, 0.0, step=0.1, label=f"Direction {i}", elem_id=f"direction-{i}")
                    for i in range(SLIDERS)
                ]
                reset = gr.Button("Back to the middle")
            with gr.Column():
                picture = gr.Image(
                    label="The sample, moved", elem_classes="picture", elem_id="moved", format="png", interactive=False,
                    alt_text="The sample, moved along the directions",
                )  # fmt: skip
                files = _downloads("moved-files")
        known: dict[str, Directions] = {}

        def move(values: "Values") -> Any:
            if values[self.drawn] is None:
                return gr.skip(), gr.skip()
            if values[method] not in known:
                known[values[method]] = directions(self.g, SLIDERS, method=values[method])
            strengths = [float(values[slider]) for slider in sliders]
            moved = work.move(self.g, values[self.drawn], int(values[number] or 0), known[values[method]], strengths)
            _, shown, written = self._show(moved)
            return shown[0][0], written

        inputs = {self.drawn, number, method, *sliders}
        for field in (self.drawn, number, method, *sliders):
            settings = {"trigger_mode": "always_last", "show_progress": "minimal"}
            self._on(field.change, move, inputs, [picture, files], "Moving the sample", **settings)
        reset.click(lambda: [0.0] * SLIDERS, None, sliders, queue=False, api_visibility="private")

    def walk(self) -> None:
        """Make a video of the way from one chosen sample to the next."""
        gr.Markdown("Draw samples first. Then select those to walk between, or write their numbers.")
        numbers = gr.Textbox("0, 1, 2", label="Samples to walk between", elem_id="numbers")
        with gr.Row():
            frames = _number("Frames from one to the next", 30, work.LONGEST, 1)
            fps = _number("Frames a second", 30, 60, 1)
            closed = gr.Checkbox(True, label="Lead back to the first")
        buttons = gr.Group()
        video = gr.Video(label="Walk", autoplay=True, loop=True, interactive=False, elem_id="video")

        def walk(values: "Values") -> Any:
            path = self.shop.new_folder() / "walk.mp4"
            drawn = values[self.drawn] or work.Drawn(None)  # type: ignore[arg-type]  # which has no latents
            chosen = work.parse_numbers(values[numbers])
            work.walk(self.g, drawn, chosen, int(values[frames] or 0), int(values[fps] or 1), values[closed], path)
            return str(path)

        with buttons:
            self._run("Walk", walk, {self.drawn, numbers, frames, fps, closed}, [video], "Drawing frames")

        def pick(event: gr.SelectData, text: str) -> str:
            return ", ".join([*([text.strip(" ,")] if text.strip(" ,") else []), str(event.index)])

        gr.Button("Clear", size="sm").click(lambda: "", None, numbers, queue=False, api_visibility="private")
        self.gallery.select(pick, numbers, numbers, queue=False, show_progress="hidden", api_visibility="private")

    def invert(self) -> None:
        """Find the latents of an uploaded picture."""
        gr.Markdown("The generator looks for the latents whose image is nearest to your picture.")
        with gr.Row():
            upload = gr.File(label="A picture", file_types=["image"], elem_id="upload")
            seen = gr.Image(
                label="As the generator sees it", elem_classes="picture", elem_id="seen", format="png",
                interactive=False, alt_text="Your picture, cropped and resized",
            )  # fmt: skip
        with gr.Row():
            steps = gr.Slider(10, 1000, 200, step=10, label="Steps")
            features = gr.Dropdown(list(FEATURES), value=next(iter(FEATURES)), label="Compare by")
            label = None if has_styles(self.g) else _class_field(self.g, in_turn=False)
        buttons = gr.Group()
        pair = gr.Image(
            label="Your picture, and the nearest one", elem_classes="picture", elem_id="pair", format="png",
            interactive=False, alt_text="Your picture, and the nearest image of the generator",
        )  # fmt: skip
        result = gr.Markdown(elem_id="inverted")

        def see(values: "Values") -> Any:
            return work.pictures(self.g, work.read_upload(values[upload], self.g))[0] if values[upload] else None

        def find(values: "Values") -> Any:
            if not values[upload]:
                gr.Info("Choose a picture first.", duration=5, title="No picture")
                return [gr.skip()] * 5
            target = work.read_upload(values[upload], self.g)
            own = None if label is None else int(values[label])
            found, distance = work.invert(
                self.g, target, steps=int(values[steps]), label=own, features=FEATURES[values[features]]
            )
            before = values[self.drawn]
            latents = found.latents
            together = found if before is None or latents is None else before.with_one(found.items, latents)
            text = (
                f"Its distance is {distance:.4f}. It is sample {len(together.items) - 1} now, and can be moved along "
                "directions, walked to, and downloaded with the samples."
            )
            return side_by_side([to_uint8(target), to_uint8(found.items)]), text, *self._show(together)

        inputs = {self.drawn, upload, steps, features, *([] if label is None else [label])}
        with buttons:
            self._run(
                "Find its latents", find, inputs, [pair, result, self.drawn, self.gallery, self.files],
                "Looking for the nearest latents",
            )  # fmt: skip
        self._on(upload.change, see, {upload}, [seen], "Reading the picture")

    def compare(self) -> None:
        """Draw the same seeds from this generator and another one."""
        choices = [choice for choice in self.shop.offers.choices() if choice[1] != self.source]
        with gr.Row():
            other = gr.Dropdown(choices, value=choices[0][1] if choices else None, label="The other", elem_id="other")
            seed, n = _number("Seed", 0, 2**31), _number("Number", 16, work.AT_MOST, 1)
        buttons = gr.Group()
        with gr.Row():
            galleries = [
                gr.Gallery(
                    label=name, columns=4, format="png", elem_classes="pictures", elem_id=f"side-{i}", height="auto",
                    object_fit="contain", interactive=False, buttons=["fullscreen"],
                )  # fmt: skip
                for i, name in enumerate((Path(self.source).name, "The other"))
            ]

        def draw(values: "Values") -> Any:
            second = self.shop.offers.load(values[other] or "")
            sides: list[Any] = []
            for g in (self.g, second):
                drawn = work.draw(g, int(values[n] or 0), int(values[seed] or 0), None, {})
                sides.append([(image, str(i)) for i, image in enumerate(work.pictures(g, drawn.items))])
            return gr.Gallery(sides[0]), gr.Gallery(sides[1], label=Path(values[other]).name)

        with buttons:
            self._run("Draw both", draw, {other, seed, n}, galleries, "Drawing samples of both")

    def translate(self) -> None:
        """Translate uploaded pictures."""
        with gr.Row():
            uploads = gr.File(label="Pictures", file_types=["image"], file_count="multiple", elem_id="uploads")
            with gr.Column():
                make = gr.Dropdown(list(MAKE), value=MAKE[0], label="Inputs made from the pictures")
                n, seed = _number("Outputs of each", 1, 16, 1), _number("Seed", 0, 2**31)
                own = fields(self.g)
        buttons = gr.Group()
        gallery = gr.Gallery(
            label="Input, and output", columns=2, format="png", elem_classes="pictures", elem_id="translated",
            height="auto", object_fit="contain", interactive=False, buttons=["fullscreen"],
        )  # fmt: skip
        files = _downloads("translated-files")

        def translate(values: "Values") -> Any:
            paths: Sequence[str] = values[uploads] or []
            if not paths:
                gr.Info("Choose pictures first.", duration=5, title="No pictures")
                return gr.skip(), gr.skip()
            label, options = own.read(values)
            spec = None if values[make] == MAKE[0] else values[make]
            made = work.translate(
                self.g, paths, make=spec, n=int(values[n] or 0), seed=int(values[seed] or 0), label=label,
                options=options,
            )  # fmt: skip
            folder = self.shop.new_folder()
            written = [folder / f"{i}-{Path(path).stem}.png" for i, path in enumerate(paths)]
            for image, path in zip(made, written, strict=True):
                image.save(path)
            names = [Path(path).name for path in paths]
            return list(zip(made, names, strict=True)), _offered(written)

        with buttons:
            inputs = {uploads, make, n, seed, *own.components}
            self._run("Translate", translate, inputs, [gallery, files], "Translating")
