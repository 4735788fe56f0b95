"""A Python in which some modules are not installed."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Python imports this module at its start, in every process that is started.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])

sys.meta_path.insert(0, Blocker())
"""


def environment_without(*modules):
    """Variables for processes that cannot import some modules; writes into the working folder."""
    folder = Path("blocker").absolute()
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCKER.format(blocked={*modules}))
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
