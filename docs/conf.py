"""How Sphinx builds the documentation: `make docs`."""

import re
from typing import Any

from sphinx.application import Sphinx

import ganzoo

project = "ganzoo"
author = "the ganzoo authors"
project_copyright = "the ganzoo authors"
version = release = ganzoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ganzoo {version}"
html_static_path = ["_static"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88

nitpicky = True
# Type hints name classes of other libraries, and some of ganzoo's inner modules. What the pages themselves link to is
# checked.
nitpick_ignore_regex = [("py:.*", r"(?!ganzoo\.[A-Za-z_]+$|ganzoo\.testing\.).*")]


def as_markdown(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make reStructuredText of a docstring in which `code` is all the markup there is: public names become links."""

    def convert(match: re.Match[str]) -> str:
        code, plain = match["code"], match["plain"]
        if code is None:
            return "\\" + plain
        short = code.removeprefix("ganzoo.")
        text = f":py:obj:`{short} <ganzoo.{short}>`" if short in ganzoo.__all__ else f"``{code}``"
        return text + ("\\ " if match["follows"] is not None else "")

    text = "\n".join(lines)
    lines[:] = re.sub(r"`(?P<code>[^`]+)`(?P<follows>(?=\w))?|(?P<plain>[*|]|_\b)", convert, text).split("\n")


def public_name(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Link a type hint such as `ganzoo.data.dataset.Data` to `ganzoo.Data`, under which it is documented."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in ganzoo.__all__:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"ganzoo.{name}", node, content)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", as_markdown, priority=100)
    app.connect("missing-reference", public_name)
