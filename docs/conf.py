"""Settings of the documentation site. Build it with `bash scripts/docs.sh`."""

from __future__ import annotations

import os
from importlib import metadata

project = "mimic3tf"
author = metadata.metadata("mimic3tf")["Author"] or "mimic3tf maintainers"
copyright = "the authors of mimic3tf, MIT licence"
release = metadata.version("mimic3tf")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["templates"]
# Notebooks are run by the tests, and kept without outputs.
nb_execution_mode = "off"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Literal blocks are shell or Python, without a lexer's guess.
highlight_language = "none"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Ray is an extra.
autodoc_mock_imports = ["ray"]
napoleon_numpy_docstring = False
# Attributes as a list: a directive for each would describe those of a named tuple twice.
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Docstrings write code in single backticks.
default_role = "code"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

html_theme = "furo"
html_title = "mimic3tf"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = [("print.css", {"media": "print"})]
