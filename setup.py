"""The README as package indexes show it, where a relative link leads nowhere.

All relative links and pictures get the address of the repository in front: `url` of setup.cfg, once set.
"""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
settings = configparser.ConfigParser()
settings.read(ROOT / "setup.cfg", encoding="utf-8")
address = settings["metadata"].get("url")
text = (ROOT / "README.md").read_text(encoding="utf-8")
if address:
    text = re.sub(r"\]\((?!\w+:|#)", f"]({address}/raw/HEAD/", text)
setup(long_description=text, long_description_content_type="text/markdown")
