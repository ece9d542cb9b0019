"""What built-in architectures need in tests: settings without files to fetch, and inputs to translate."""

from typing import Any

INPUTS = {"cyclegan": "masked", "pix2pix": "edges", "srgan": "smaller=4"}
"""The inputs of those that translate."""
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "projected": {
        "generator": {"width": 8},
        "discriminator": {"backbone": "test_efficientnet", "weights": "random", "resolution": 64, "width": 8},
    }
}
"""Settings under which those that would fetch files make do without them, and stay small."""
