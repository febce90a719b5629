# SPDX-License-Identifier: Apache-2.0
"""The documentation's build: ``make docs`` turns these pages and the docstrings into ``site``. Nothing is fetched."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import monai_ext

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "monai-ext"
version = release = monai_ext.__version__
copyright = "the authors of monai-ext; licence Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_ext", "figures"]
highlight_language = "none"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
napoleon_custom_sections = ["Shape"]
napoleon_use_ivar = True

html_theme = "furo"
html_title = "monai-ext"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False


def own_footnotes(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Number the footnotes of a page, not those of each docstring: ``[1]`` of two classes are two papers."""
    label = re.sub(r"\W", "-", name)
    lines[:] = [re.sub(r"\[(\d+)\](?=_|\s|$)", rf"[#{label}-\1]", line) for line in lines]


def bundle_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """A link to a bundle's README leads to its page here."""
    source[0] = re.sub(r"\((?:\.\./)+bundles/(\w+)/docs/README\.md", r"(/bundles/\1.md", source[0])


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", own_footnotes)
    app.connect("source-read", bundle_pages)
