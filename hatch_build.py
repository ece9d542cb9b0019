"""Ships the example plugins in the wheel, as what `ganzoo plugins new` copies.

`sources` cannot say so, as it moves all of plugins/ to the top; `force-include` would copy it into editable installs
too, where the copy goes stale.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Template(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for name in ("example", "example_inputs"):
                build_data["force_include"][f"plugins/{name}"] = f"ganzoo/templates/{name}"
