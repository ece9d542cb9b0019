"""Data sets by name: digits, sprites and tones, which need no download, and data sets of torchvision."""

from ganzoo import Register, hookimpl


@hookimpl
def register_data(register: Register) -> None:
    register(
        "digits",
        "ganzoo_data.loaders:digits",
        summary="10,000 handwritten digits, 28x28 grey; ships in the package",
        license="CC BY-SA 3.0",
        features="mnist",
        recipe="digits",
    )
    register(
        "sprites",
        "ganzoo_data.sprites:sprites",
        summary="10,000 creatures in 8 colours, 32x32 colour; drawn by code",
        license="Apache-2.0",
    )
    register(
        "tones",
        "ganzoo_data.tones:tones",
        summary="4,000 sounds of three pitches, 0.25 s at 4,096 Hz; made by code",
        license="Apache-2.0",
    )
    register(
        "stacked_mnist",
        "ganzoo_data.loaders:stacked_mnist",
        summary="128,000 colour images of three MNIST digits, one a channel: 1,000 modes (torchvision)",
        license="CC BY-SA 3.0",
        features="mnist",
    )
    for name, summary, license in (
        ("mnist", "70,000 handwritten digits, 28x28 grey", "CC BY-SA 3.0"),
        ("fashion_mnist", "70,000 articles of clothing, 28x28 grey", "MIT"),
        ("kmnist", "70,000 Japanese characters, 28x28 grey", "CC BY-SA 4.0"),
        ("qmnist", "120,000 handwritten digits, 28x28 grey", ""),
        ("usps", "9,298 handwritten digits, 16x16 grey", ""),
        ("cifar10", "60,000 photos of 10 classes, 32x32 colour", ""),
        ("cifar100", "60,000 photos of 100 classes, 32x32 colour", ""),
        ("svhn", "99,289 house numbers, 32x32 colour", ""),
        ("stl10", "113,000 photos, 96x96 colour", ""),
    ):
        own = {"features": "mnist", "recipe": "digits"} if name in ("mnist", "qmnist") else {}
        register(name, f"ganzoo_data.loaders:{name}", summary=f"{summary} (torchvision)", license=license, **own)
