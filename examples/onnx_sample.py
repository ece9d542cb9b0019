"""Draw images or sounds from an exported generator with numpy, onnxruntime and pillow alone, without torch or ganzoo.

ganzoo export runs/dcgan-digits-001 -o g.onnx
python examples/onnx_sample.py g.onnx -n 64 --seed 0 -o grid.png
"""

import argparse
import json
import wave

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from PIL import Image

parser = argparse.ArgumentParser(description="Draw a grid of images, or sounds, from an ONNX generator.")
parser.add_argument("model", help="what `ganzoo export` wrote")
parser.add_argument("-n", type=int, default=64, help="how many images or sounds")
parser.add_argument(
    "--class", dest="label", help="name or number of the class of a conditional generator  [default: all in turn]"
)
parser.add_argument("--seed", type=int, default=0, help="seed of the latents")
parser.add_argument(
    "--set", action="append", default=[], metavar="NAME=NUMBER", help="an option of the generator, as truncation=0.7"
)
parser.add_argument("-o", "--out", help="the picture, or of sounds the .wav file  [default: grid.png or sounds.wav]")
arguments = parser.parse_args()

session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
z_dim = session.get_inputs()[0].shape[1]
inputs = {"z": np.random.default_rng(arguments.seed).standard_normal((arguments.n, z_dim), dtype=np.float32)}
metadata = session.get_modelmeta().custom_metadata_map
names = json.loads(metadata.get("ganzoo.classes", "[]"))
classes = json.loads(metadata["ganzoo.config"]).get("num_classes")
if classes and arguments.label is None:
    inputs["labels"] = np.arange(arguments.n) % classes
elif classes:
    numbers = {str(i): i for i in range(classes)} | {name: i for i, name in enumerate(names)}
    if arguments.label not in numbers:
        parser.error(f"there is no class {arguments.label}: choose from {', '.join(names or numbers)}")
    inputs["labels"] = np.full(arguments.n, numbers[arguments.label])
elif arguments.label is not None:
    parser.error("this generator is not class-conditional: leave --class out")
options = json.loads(metadata.get("ganzoo.options", "{}"))
for name, equals, number in (text.partition("=") for text in arguments.set):
    if not equals or name not in options:
        parser.error(f"there is no option {name}: this generator has {', '.join(options) or 'none'}")
    options[name] = float(number)
inputs |= {name: np.array(number, np.float32) for name, number in options.items()}
(images,) = session.run(None, inputs)  # (n, channels, height, width), or of sounds (n, channels, samples)

if "ganzoo.rate" in metadata:
    out = arguments.out or "sounds.wav"
    samples = np.clip(np.round(images * 32768), -32768, 32767).astype("<i2")
    with wave.open(out, "wb") as file:
        file.setparams((samples.shape[1], 2, int(metadata["ganzoo.rate"]), 0, "NONE", "not compressed"))
        file.writeframes(samples.transpose(0, 2, 1).tobytes())  # one after the other
else:
    out = arguments.out or "grid.png"
    n, channels, height, width = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    pixels = np.zeros((-(-n // columns) * columns, height, width, channels), np.uint8)
    pixels[:n] = np.clip(np.round(images * 127.5 + 127.5), 0, 255).transpose(0, 2, 3, 1)
    sheet = pixels.reshape(-1, columns, height, width, channels).swapaxes(1, 2).reshape(-1, columns * width, channels)
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(out)
print(out)
