"""Installation with `pip install .`: the project's folders become parts of the package `richiqa`."""

import os

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

PACKAGES = ("datasets", "experiments", "losses", "models", "scoring", "utils")
SCRIPTS = ("main.py", "inference.py")
DATA = {"configs": ["*.yaml", "ablations/*.yaml"], "checkpoint": ["*.md", "richiqa_lite.safetensors"]}

folders = [name for name in find_packages() if name.partition(".")[0] in PACKAGES] + list(DATA)


class BuildWithScripts(build_py):
    """Build the packages, and copy the scripts into `richiqa`."""

    def run(self):
        super().run()
        for script in SCRIPTS:
            self.copy_file(script, os.path.join(self.build_lib, "richiqa", script))


setup(
    packages=["richiqa", *(f"richiqa.{name}" for name in folders)],
    package_dir={f"richiqa.{name}": name.replace(".", "/") for name in folders},
    package_data={"": ["*.j2", "*.css", "*.svg", "*.js"], **{f"richiqa.{name}": files for name, files in DATA.items()}},
    cmdclass={"build_py": BuildWithScripts},
)
