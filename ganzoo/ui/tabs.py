"""The tabs of the workshop, each for one thing to do with a generator. A generator has those that fit it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from torch import nn

from ganzoo.latent.directions import Directions, directions
from ganzoo.latent.latents import has_styles, space_shape
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.examples import side_by_side
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.pictures import to_uint8
from ganzoo.sampling.sound import rate_of
from ganzoo.ui import work
from ganzoo.ui.desk import TURN, Desk
from ganzoo.ui.fields import Values, class_field, downloads, fields, gallery_of, offered, picture_of, plain, whole
from ganzoo.ui.offers import settings

SLIDERS = 6
"""Directions that have a slider."""
REACH = 4.0
"""Standard deviations from the middle of a slider to its ends."""
MAKE = ("the pictures are inputs", "edges", "grey", "masked", "smaller=4")
FEATURES = {"pixels": "none", "digits": "mnist", "photographs (fetches 18 MB the first time)": "auto"}


def build(desk: Desk, source: str) -> None:
    """The tabs for a generator that was loaded."""
    g = desk.offers.load(source)
    if takes_inputs(g):
        Bench(desk, source, g).translate()
        return
    bench = Bench(desk, source, g)
    parts: dict[str, Any] = {"Samples": bench.samples, "Directions": bench.directions}
    if rate_of(g) is None and "image_size" in settings(g):
        parts |= {"Walk": bench.walk, "Your picture": bench.invert}
    if len(desk.offers.choices()) > 1:
        parts["Side by side"] = bench.compare
    # Named, because the browser keeps the name of the open tab when the tabs of another generator take its place.
    with gr.Tabs(selected="Samples", overflow_behavior="wrap"):
        for name, part in parts.items():
            with gr.Tab(name, id=name, render_children=True):
                part()


class Bench:
    """The tabs of one generator, and what they share: the samples that were drawn last.

    Args:
        desk: what the events of the page share.
        source: the generator's name on it.
        g: the generator.
    """

    def __init__(self, desk: Desk, source: str, g: nn.Module) -> None:
        self.desk, self.source, self.g = desk, source, g
        self.drawn = gr.State()
        self.gallery: Any = None
        self.outputs: list[Any] = []

    def _run(self, text: str, work: Any, inputs: set[Any], outputs: list[Any], what: str) -> None:
        """A button that starts a job, and one that stops it."""
        with gr.Row():
            go = gr.Button(text, variant="primary", scale=3)
            stop = gr.Button("Stop", scale=1, min_width=80)
        seen = next(part for part in outputs if not isinstance(part, gr.State))
        self._on(go.click, work, inputs, outputs, what, trigger_mode="multiple", show_progress_on=seen)
        stop.click(self.desk.stop, queue=False, api_visibility="private", show_progress="hidden")

    def _on(self, event: Any, work: Any, inputs: set[Any], outputs: list[Any], what: str, **settings: Any) -> None:
        def generators(values: Values) -> list[nn.Module]:
            others = [values[field] for field in inputs if getattr(field, "elem_id", None) == "other"]
            return [self.g, *(self.desk.offers.load(name) for name in others if name)]

        event(
            self.desk.job(work, generators, what), inputs, outputs, concurrency_id=TURN, concurrency_limit=1,
            api_visibility="private", **settings,
        )  # fmt: skip

    def _show(self, drawn: work.Drawn) -> list[Any]:
        """Samples as the values of `outputs`: the state, the gallery, the files to download, and sounds to hear."""
        names = class_names(self.g)
        labels = None if drawn.latents is None else drawn.latents.labels
        shown = work.pictures(self.g, drawn.items)
        captions = [str(i) for i in range(len(shown))]
        if labels is not None:
            captions = [f"{i} · {names[k] if names else k}" for i, k in enumerate(labels.tolist())]
        files = work.write(self.g, drawn, self.desk.new_folder())
        heard = [str(path) for path in files if path.suffix == ".wav"]
        return [drawn, [*zip(shown, captions, strict=False)] if not heard else shown, offered(files), *heard]

    def samples(self) -> None:
        """Draw samples of a seed."""
        with gr.Row():
            seed = whole("Seed", 0, 2**31)
            n = whole("Number", 16, work.AT_MOST, 1)
            own = fields(self.g)
        buttons = gr.Group()
        sounds = rate_of(self.g) is not None
        self.gallery = gallery_of("Samples", "samples", wide=sounds)
        self.outputs = [self.drawn, self.gallery, downloads("files")]
        if sounds:
            self.outputs.append(gr.Audio(label="All of them, one after another", interactive=False, elem_id="heard"))

        def draw(values: Values) -> Any:
            label, options = own.read(values)
            return self._show(work.draw(self.g, int(values[n] or 0), int(values[seed] or 0), label, options))

        with buttons:
            self._run("Draw", draw, {seed, n, *own.components}, self.outputs, "Drawing samples")

    def directions(self) -> None:
        """Move a sample along directions of latent space, each of which has a slider."""
        gr.Markdown(
            "Draw samples first. Each slider moves one of them along a direction that was found in the weights."
        )
        with gr.Row():
            number = whole("Sample", 0, work.AT_MOST - 1)
            ways = ["factorise", "components"] if has_styles(self.g) else ["factorise"]
            method = gr.Dropdown(ways, value=ways[0], label="How directions are found", interactive=True)
        with gr.Row():
            with gr.Column():
                sliders = [
                    gr.Slider(
                        -REACH, REACH, 0.0, step=0.1, label=f"Direction {i}", elem_id=f"direction-{i}", interactive=True
                    )
                    for i in range(min(SLIDERS, space_shape(self.g, "w" if has_styles(self.g) else "z")[-1]))
                ]
                reset = gr.Button("Back to the middle")
            with gr.Column():
                picture = picture_of("The sample, moved", "moved")
                written = downloads("moved-files")
        known: dict[str, Directions] = {}

        def move(values: Values) -> Any:
            if values[self.drawn] is None:
                return gr.skip(), gr.skip()
            strengths, way = [float(values[slider]) for slider in sliders], values[method]
            if any(strengths) and way not in known:
                known[way] = directions(self.g, len(sliders), method=way)
            moved = work.move(self.g, values[self.drawn], int(values[number] or 0), known.get(way), strengths)
            files = work.write(self.g, moved, self.desk.new_folder())
            return work.pictures(self.g, moved.items)[0], offered(files)

        inputs = {self.drawn, number, method, *sliders}
        for field in (self.drawn, number, method, *sliders):
            settings = {"trigger_mode": "always_last", "show_progress": "minimal"}
            self._on(field.change, move, inputs, [picture, written], "Moving the sample", **settings)
        reset.click(lambda: [0.0] * len(sliders), None, sliders, queue=False, api_visibility="private")

    def walk(self) -> None:
        """Make a video of the way from one chosen sample to the next."""
        gr.Markdown("Draw samples first. Then select those to walk between, or write their numbers.")
        numbers = gr.Textbox("0, 1, 2", label="Samples to walk between", elem_id="numbers", interactive=True)
        with gr.Row():
            frames = whole("Frames from one to the next", 30, work.LONGEST, 1)
            fps = whole("Frames a second", 30, 60, 1)
            closed = gr.Checkbox(True, label="Lead back to the first", interactive=True)
        buttons = gr.Group()
        video = gr.Video(label="Walk", autoplay=True, loop=True, interactive=False, height=420, elem_id="video")

        def walk(values: Values) -> Any:
            path = self.desk.new_folder() / "walk.mp4"
            drawn = values[self.drawn] or work.Drawn(None)  # type: ignore[arg-type]  # which has no latents
            chosen = work.parse_numbers(values[numbers])
            work.walk(self.g, drawn, chosen, int(values[frames] or 0), int(values[fps] or 1), values[closed], path)
            return str(path)

        with buttons:
            self._run("Walk", walk, {self.drawn, numbers, frames, fps, closed}, [video], "Drawing frames")

        def pick(event: gr.SelectData, text: str) -> str:
            return ", ".join([*([text.strip(" ,")] if text.strip(" ,") else []), str(event.index)])

        self.gallery.select(pick, numbers, numbers, queue=False, show_progress="hidden", api_visibility="private")

    def invert(self) -> None:
        """Find the latents of an uploaded picture."""
        gr.Markdown("The generator looks for the latents whose image is nearest to your picture.")
        with gr.Row():
            with gr.Column(min_width=280):
                upload = gr.File(label="A picture", file_types=["image"], interactive=True, elem_id="upload")
            with gr.Column(min_width=280):
                seen = picture_of("As the generator sees it", "seen")
        with gr.Row():
            steps = gr.Slider(10, 1000, 200, step=10, label="Steps", interactive=True)
            features = gr.Dropdown(list(FEATURES), value=next(iter(FEATURES)), label="Compare by", interactive=True)
            label = None if has_styles(self.g) else class_field(self.g, in_turn=False)
        buttons = gr.Group()
        pair = picture_of("Your picture, and the nearest one", "pair")
        result = gr.Markdown(elem_id="inverted")

        def see(values: Values) -> Any:
            return work.pictures(self.g, work.read_upload(values[upload], self.g))[0] if values[upload] else None

        def find(values: Values) -> Any:
            if not values[upload]:
                gr.Info("Choose a picture first.", duration=5, title="No picture")
                return [gr.skip()] * (2 + len(self.outputs))
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
                "Find its latents", find, inputs, [pair, result, *self.outputs], "Looking for the nearest latents",
            )  # fmt: skip
        self._on(upload.change, see, {upload}, [seen], "Reading the picture")

    def compare(self) -> None:
        """Draw the same seeds from this generator and another one."""
        choices = [choice for choice in self.desk.offers.choices() if choice[1] != self.source]
        with gr.Row():
            other = gr.Dropdown(
                choices, value=choices[0][1] if choices else None, label="The other", elem_id="other", interactive=True
            )
            seed, n = whole("Seed", 0, 2**31), whole("Number", 16, work.AT_MOST, 1)
        buttons = gr.Group()
        with gr.Row():
            galleries, titles = [], []
            for i, name in enumerate((Path(self.source).name, "The other")):
                with gr.Column(min_width=300):
                    titles.append(gr.Markdown(f"**{plain(name)}**"))
                    galleries.append(gallery_of(name, f"side-{i}"))

        def draw(values: Values) -> Any:
            second = self.desk.offers.load(values[other] or "")
            sides: list[Any] = []
            for g in (self.g, second):
                drawn = work.draw(g, int(values[n] or 0), int(values[seed] or 0), None, {})
                sides.append([(image, str(i)) for i, image in enumerate(work.pictures(g, drawn.items))])
            return *sides, f"**{plain(Path(values[other]).name)}**"

        with buttons:
            self._run("Draw both", draw, {other, seed, n}, [*galleries, titles[1]], "Drawing samples of both")

    def translate(self) -> None:
        """Translate uploaded pictures."""
        with gr.Row():
            uploads = gr.File(
                label="Pictures", file_types=["image"], interactive=True, file_count="multiple", elem_id="uploads"
            )
            with gr.Column():
                make = gr.Dropdown(list(MAKE), value=MAKE[0], label="Inputs made from the pictures", interactive=True)
                n, seed = whole("Outputs of each", 1, 16, 1), whole("Seed", 0, 2**31)
                own = fields(self.g)
        buttons = gr.Group()
        gallery = gallery_of("Input, and output", "translated", wide=True)
        files = downloads("translated-files")

        def translate(values: Values) -> Any:
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
            folder = self.desk.new_folder()
            written = [folder / f"{i}-{Path(path).stem}.png" for i, path in enumerate(paths)]
            for image, path in zip(made, written, strict=True):
                image.save(path)
            names = [Path(path).name for path in paths]
            return list(zip(made, names, strict=True)), offered(written)

        with buttons:
            inputs = {uploads, make, n, seed, *own.components}
            self._run("Translate", translate, inputs, [gallery, files], "Translating")
