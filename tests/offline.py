"""Settings under which the built-in architectures that would fetch files make do without them, and stay small."""

from typing import Any

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "projected": {
        "generator": {"width": 8},
        "discriminator": {"backbone": "test_efficientnet", "weights": "random", "resolution": 64, "width": 8},
    }
}
