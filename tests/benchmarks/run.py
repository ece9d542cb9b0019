"""Measure ganzoo's trainer against the loops that everyone copies: `make bench`, or `python tests/benchmarks/run.py`.

Both sides of a case run in one go, in turns of a few seconds, each in a process of its own; a ratio is taken in every
round, and the median and the range of the rounds are reported. Images a second are real images that D saw. ganzoo's
side is `ganzoo.train` itself, with data, log and averaged generator; pictures and checkpoints are left out on both
sides.

"Of the peak" is the arithmetic that the algorithm needs, over the time it took, over the best rate that the same
machine reached in the same precision at a large square matrix product (GEMM), and at the forward and backward pass of
DCGAN's convolutions. What the algorithm needs: the multiplications and additions of the plain layers' products and
convolutions, forward and backward, in ganzoo's order (the last fakes of D's updates serve G's too, those before have no
graph, no weight gradients of D in G's step).
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import launches
from recording import recording
from sides import CASES, WARM_UP, Case, Worker

HERE = Path(__file__).parent
SECTIONS = ("stylegan2", "startup", "processes", "recording", "launches")
VARIANTS = ("fp32", "bf16", "compiled")
MARKS = ("<!-- bench -->\n", "<!-- /bench -->\n")
MB = 1e6


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


# The machine.
def machine(threads: int, device: str) -> dict[str, Any]:
    import torch

    import ganzoo

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {
        "cpu": name,
        "cpus": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ganzoo": ganzoo.__version__,
    }


def peaks(precisions: list[str], device: str, seconds: float) -> dict[str, dict[str, float]]:
    """FLOP/s: {"gemm": {precision: ...}, "conv": {precision: ...}}, the best of many repetitions.

    Args:
        precisions: "fp32", "bf16".
        device: "cpu" or "cuda".
        seconds: for each shape.
    """
    import torch

    def best(run: Callable[[], object]) -> float:
        run()
        shortest, until, began = float("inf"), time.perf_counter() + seconds, 0.0
        while began < until:
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            shortest = min(shortest, time.perf_counter() - began)
        return shortest

    def there_and_back(conv: torch.nn.Conv2d, x: torch.Tensor, gradient: torch.Tensor) -> None:
        conv(x).backward(gradient)

    found: dict[str, dict[str, float]] = {"gemm": {}, "conv": {}}
    side, batch = (8192, 512) if device == "cuda" else (2048, 64)
    for precision in precisions:
        kind: dict[str, Any] = {"dtype": torch.float32 if precision == "fp32" else torch.bfloat16, "device": device}
        a, b = torch.randn(side, side, **kind), torch.randn(side, side, **kind)
        found["gemm"][precision] = 2 * side**3 / best(partial(torch.matmul, a, b))
        found["conv"][precision] = 0.0
        for channels, size in ((64, 32), (128, 16), (256, 8)):
            for layout in (torch.contiguous_format, torch.channels_last):
                conv = torch.nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False, **kind).to(memory_format=layout)
                x = torch.randn(batch, channels, size, size, **kind).to(memory_format=layout).requires_grad_()
                out = torch.randn_like(conv(x))
                flops = 3 * 2 * out.numel() * channels * 16
                rate = flops / best(partial(there_and_back, conv, x, out))
                found["conv"][precision] = max(found["conv"][precision], rate)
    return found


def flops_per_image(case: Case) -> float:
    """Multiplications and additions of a step for each real image that D sees; see the top of this file."""
    import textbook
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    n = 8
    g, d = getattr(textbook, case.networks)(case.critic)
    real = torch.randn(n, case.channels, case.image_size, case.image_size)
    z = torch.randn(n, textbook.Z_DIM)
    with FlopCounterMode(display=False) as counter:
        for i in range(case.n_critic):
            with torch.set_grad_enabled(i == case.n_critic - 1):
                made = g(z)
            fake = made.detach()
            loss = d(real).mean() - d(fake).mean()
            if case.penalty:
                # The counter's hooks want no leaf as a module's input.
                loss = loss + textbook.gradient_penalty(lambda x: d(x.clone()), real, fake)
            loss.backward()
        d.requires_grad_(False)
        d(made).mean().backward()
    return counter.get_total_flops() / (n * case.n_critic)


# The cases.
def variants(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What ganzoo's side is run with: fp32, bf16 where the machine computes it natively, and compiled networks."""
    import torch

    from ganzoo import TrainConfig
    from ganzoo.training.settings import choose_precision

    found: dict[str, dict[str, Any]] = {"fp32": {"precision": "fp32"}}
    if "bf16" in options.variants:
        if choose_precision(TrainConfig("dcgan", auto_precision="bf16"), torch.device(options.device)) == "bf16":
            found["bf16"] = {"precision": "bf16"}
        else:
            say("no bf16: this machine does not compute it natively")
    if "compiled" in options.variants and "compile" in {field.name for field in dataclasses.fields(TrainConfig)}:
        found |= {f"{name}, compiled": {**settings, "compile": True} for name, settings in found.items()}
    return found


def idle_memory(device: str) -> int:
    """Bytes that a process holds which has imported torch and done nothing."""
    if device == "cuda":
        return 0
    script = "import torch, sides; print(sides.peak_memory('cpu'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, check=True, capture_output=True, text=True)
    return int(done.stdout)


def compare(
    name: str,
    kinds: dict[str, dict[str, Any]],
    options: argparse.Namespace,
    peak: dict[str, dict[str, float]],
    idle: int,
) -> dict[str, Any]:
    """One case, all sides in turns."""
    case = CASES[name]
    flops = flops_per_image(case)
    with tempfile.TemporaryDirectory() as folder:
        workers = {"textbook": Worker(name, None, options.threads, options.device)}
        for i, (kind, settings) in enumerate(kinds.items()):
            out = {"out": str(Path(folder) / str(i))}
            workers[kind] = Worker(name, {**settings, **out}, options.threads, options.device)
        first = {}
        for kind, worker in workers.items():
            say(f"{name}: warming up {kind}")
            first[kind] = worker.turn(0)[2]
            worker.turn(options.seconds)
        turns: dict[str, list[tuple[int, int, float]]] = {kind: [] for kind in workers}
        order = list(workers)
        for i in range(options.rounds):
            say(f"{name}: round {i + 1} of {options.rounds}")
            for kind in order[i % len(order) :] + order[: i % len(order)]:
                turns[kind].append(workers[kind].turn(options.seconds))
        memory = {kind: worker.end() - idle for kind, worker in workers.items()}

    rates = {kind: [images / seconds for _, images, seconds in done] for kind, done in turns.items()}
    step = {kind: statistics.median(seconds / steps for steps, _, seconds in done) for kind, done in turns.items()}
    result: dict[str, Any] = {
        "title": case.title,
        "batch_size": case.batch_size,
        "n_critic": case.n_critic,
        "flops_per_image": flops,
        "textbook": {"images_per_second": statistics.median(rates["textbook"]), "memory": memory["textbook"]},
        "ganzoo": {},
    }
    for kind in kinds:
        ratios = [mine / theirs for mine, theirs in zip(rates[kind], rates["textbook"], strict=True)]
        rate, precision = statistics.median(rates[kind]), kind[:4]
        found = {
            "images_per_second": rate,
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "memory": memory[kind],
            "flops_per_second": rate * flops,
            "of_gemm_peak": rate * flops / peak["gemm"][precision],
            "of_conv_peak": rate * flops / peak["conv"][precision],
        }
        if kind != precision:
            cost = (first[kind] - WARM_UP * step[kind]) - (first[precision] - WARM_UP * step[precision])
            gain = step[precision] - step[kind]
            found["compile_seconds"] = cost
            found["pays_after_steps"] = round(cost / gain) if gain > 0 else None
        result["ganzoo"][kind] = found
    return result


def style_networks(options: argparse.Namespace, peak: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Training of `stylegan2` by its default recipe, in each precision of which the peak is known."""
    import styles

    found = []
    for size in styles.SIZES:
        for precision, best in peak["conv"].items():
            say(f"stylegan2: {size} px in {precision}")
            row = styles.training(size, precision, options.device, 1 if options.quick else 6)
            share = row["images_per_second"] * row["flops_per_image"] / best
            found.append({"size": size, "precision": precision, **row, "of_conv_peak": share})
    return found


# The command line, from outside.
def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def startup(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the start of a command to what it is for; the median of several."""
    found: dict[str, list[float]] = {"import_torch": [], "train_first_step": [], "sample_64": []}
    for i in range(1 if options.quick else 5):
        say(f"startup: {i + 1}")
        with tempfile.TemporaryDirectory() as folder:
            ganzoo = [sys.executable, "-m", "ganzoo"]
            train = [*ganzoo, "train", "vanilla", "--steps", "1", "--device", options.device, "--out", "run", "-q"]
            sample = [*ganzoo, "sample", "dcgan.mnist", "-n", "64", "-o", "grid.png"]
            commands = [[sys.executable, "-c", "import torch"], train, sample]
            for (what, seconds), command in zip(found.items(), commands, strict=True):
                began = time.time()
                subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment(options.threads))
                ended = time.time()
                if what == "train_first_step":  # its line in the log is written at once, the picture and model later
                    ended = (Path(folder) / "run" / "metrics.jsonl").stat().st_mtime
                seconds.append(ended - began)
    return {what: statistics.median(seconds) for what, seconds in found.items()}


def processes(options: argparse.Namespace) -> dict[str, Any] | None:
    """DCGAN 64 on one process and on two, one thread each and the same global batch; None where that cannot run."""
    if options.device != "cpu" or (os.cpu_count() or 1) < 2:
        say("processes: skipped, this measures two processes on two CPU cores")
        return None
    case = CASES["dcgan64"]
    settings = {key: value for key, value in case.settings().items() if key != "architecture"}
    settings |= {"device": "cpu", "precision": "fp32", "log_every": 2, "steps": 6 if options.quick else 12}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for i in range(1 if options.quick else 5):
        for count, launcher in ((1, []), (2, torchrun)):
            say(f"processes: round {i + 1}, {count}")
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "config.json").write_text(json.dumps(settings))
                command = [sys.executable, *launcher, "-m", "ganzoo", "train", "dcgan", "--config", "config.json"]
                done = subprocess.run(
                    [*command, "--out", "run", "-q"], cwd=folder, capture_output=True, text=True, env=environment(1)
                )
                if done.returncode:
                    raise SystemExit(f"bench: {' '.join(command)} failed:\n{done.stderr}")
                lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
            # The first line pays for the warm-up.
            rates[count].append(statistics.median(json.loads(line)["images_per_second"] for line in lines[1:]))
    return {
        "one": statistics.median(rates[1]),
        "two": statistics.median(rates[2]),
        "ratios": [two / one for one, two in zip(rates[1], rates[2], strict=True)],
    }


# The report.
def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def markdown(result: dict[str, Any]) -> Iterator[str]:
    """The lines between the marks of docs/speed.md."""
    facts, peak = result["machine"], result["peaks"]
    where = f"{facts['cpu']}, {facts['threads']} of {facts['cpus']} CPUs"
    if facts["device"] != "cpu":
        where = facts["device"]
    yield f"On {where}, torch {facts['torch']}{', ' + result['date'] if result['date'] else ''}:"
    if result["cases"]:
        yield ""
        yield (
            "| | textbook, images/s | ganzoo | images/s | ratio (range) | of conv peak | of GEMM peak "
            "| peak memory, textbook → ganzoo |"
        )
        yield "|---|---:|---|---:|---:|---:|---:|---:|"
    for case in result["cases"].values():
        theirs = case["textbook"]
        for i, (kind, mine) in enumerate(case["ganzoo"].items()):
            cells = [
                f"{case['title']}, batch {case['batch_size']}" if i == 0 else "",
                f"{theirs['images_per_second']:,.0f}" if i == 0 else "",
                kind,
                f"{mine['images_per_second']:,.0f}",
                spread(mine["ratios"]),
                f"{mine['of_conv_peak']:.0%}",
                f"{mine['of_gemm_peak']:.0%}",
                f"{theirs['memory'] / MB:,.0f} → {mine['memory'] / MB:,.0f} MB",
            ]
            yield f"| {' | '.join(cells)} |"
    if peak:
        yield ""
        for kind, name in (("conv", "convolutions"), ("gemm", "matrix products")):
            rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {precision}" for precision, rate in peak[kind].items())
            yield f"- Peak of this machine at {name}: {rates}."
    for case in result["cases"].values():
        for kind, mine in case["ganzoo"].items():
            if "compile_seconds" in mine:
                steps = mine["pays_after_steps"]
                pays = "never pays" if steps is None else f"pays after {steps:,} steps"
                yield f"- {case['title']}, {kind}: compiling takes {mine['compile_seconds']:.0f} s more and {pays}."
    for row in result.get("stylegan2", ()):
        yield (
            f"- StyleGAN2's default recipe at {row['size']} px in {row['precision']}: "
            f"{row['images_per_second']:,.0f} images/s, {row['of_conv_peak']:.0%} of the peak at convolutions."
        )
    if times := result.get("startup"):
        yield (
            f"- From the command to the first step: {times['train_first_step']:.1f} s; to a grid of 64 samples: "
            f"{times['sample_64']:.1f} s; of which `import torch`: {times['import_torch']:.1f} s."
        )
    if found := result.get("processes"):
        yield (
            f"- DCGAN at 64 px on two one-thread processes: {found['two']:,.0f} images/s, on one {found['one']:,.0f}: "
            f"{spread(found['ratios'])} times as many."
        )
    yield from recording_lines(result["recording"]) if result.get("recording") else ()
    if rows := result.get("launches"):
        yield ""
        yield from launches.table(rows)


def recording_lines(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """What `recording` found. What runs beside the training without any tracker is none's."""
    page, idle = found["none"]["page"], found["none"]["beside"]
    yield f"- The page of a run takes {page:.2%} of the time of DCGAN's default recipe."
    for name, shares in found.items():
        if name != "none":
            beside = max(0.0, shares["beside"] - idle)
            own = shares["training"]
            yield f"- Tracking with {name} takes {own:.3%} of it, and {beside:.2%} in other threads and processes."


def write_between_marks(path: Path, lines: list[str], marks: tuple[str, str] = MARKS) -> None:
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SystemExit(f"{path} has no {marks[0].strip()} and {marks[1].strip()} on lines of their own")
    path.write_text("".join([before, begin, *(f"{line}\n" for line in lines), end, after]), encoding="utf-8")


def main() -> None:
    names = [*CASES, *SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a look: 3 rounds of half a second")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=VARIANTS,
        metavar="NAME",
        help=f"{', '.join(VARIANTS)}; fp32 always",
    )
    parser.add_argument("--rounds", type=int, help="turns of each side (default 5)")
    parser.add_argument("--seconds", type=float, help="a turn, at least one step (default 3)")
    parser.add_argument("--threads", type=int, help="of torch (default torch's own)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help=f"put the table between {MARKS[0].strip()} there, such as docs/speed.md",
    )
    parser.add_argument("--date", default="", help="the date to state in the record")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 3.0)

    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no CUDA device that torch can use")
    options.threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(options.threads)

    cases = [name for name in CASES if name in options.only]
    result: dict[str, Any] = {
        "machine": machine(options.threads, options.device),
        "date": options.date,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "peaks": {},
        "cases": {},
    }
    try:
        if cases or "stylegan2" in options.only:
            say("peaks of the machine")
            kinds = variants(options)
            precisions = [kind for kind in kinds if kind in VARIANTS]
            result["peaks"] = peaks(precisions, options.device, 0.1 if options.quick else 2.0)
        if cases:
            idle = idle_memory(options.device)
            for name in cases:
                result["cases"][name] = compare(name, kinds, options, result["peaks"], idle)
        if "stylegan2" in options.only:
            result["stylegan2"] = style_networks(options, result["peaks"])
        if "startup" in options.only:
            result["startup"] = startup(options)
        if "processes" in options.only:
            result["processes"] = processes(options)
        if "recording" in options.only:
            result["recording"] = recording(options.quick)
        if "launches" in options.only:
            result["launches"] = launches.count_all(launches.cases())
    finally:  # what was measured before an error or Ctrl-C took long enough
        lines = list(markdown(result))
        print("\n".join(lines))
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.write:
        write_between_marks(options.write, lines)


if __name__ == "__main__":
    main()
