"""Model name -> class: ours first, then RecBole's.

RecBole's own look-up of an unknown name imports its external libraries and fails with
`ModuleNotFoundError: lightgbm`; here nothing is imported until the name is known.
"""

from __future__ import annotations

import difflib
import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import recbole.model
import torch

from recbole_hstu.support.errors import InputError

OWN_MODELS = {
    "HSTU": "recbole_hstu.model.hstu",
    "HSTUText": "recbole_hstu.model.hstutext",
    "HSTUBLaIR": "recbole_hstu.model.hstublair",
    "HSTUOpenAI": "recbole_hstu.model.hstuopenai",
    "LIS": "recbole_hstu.model.lis",
    "SASRecSS": "recbole_hstu.model.sasrecss",
}


@cache
def recbole_models() -> dict[str, str]:
    """Names of RecBole's models and the modules that hold them."""
    root = Path(recbole.model.__file__).parent
    found = {}
    for file in sorted(root.glob("*_recommender/[a-z]*.py")):
        for name in re.findall(r"^class (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            if name.lower() == file.stem:
                found[name] = f"recbole.model.{file.parent.name}.{file.stem}"
    return found


def unknown_model(name: str, configurations: list[str]) -> InputError:
    """The error for a name that neither a class nor a named configuration bears."""
    known = {*OWN_MODELS, *recbole_models(), *configurations}
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}"
    return InputError(f"--model={name}: no such model; {hint}")


def model_class(name: str) -> type | None:
    """The class of a model, None if nobody knows the name.

    Raises:
        InputError: the library that the model wraps is missing.
    """
    module = OWN_MODELS.get(name) or recbole_models().get(name)
    if module is None:
        return None
    try:
        return getattr(_import(module), name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--model={name}: needs the package {error.name}; pip install {error.name}"
        ) from error


def _import(module: str) -> ModuleType:
    """RecBole's SINE, which comes along with any sequential model, switches autograd's search for
    anomalies on: every training of the process would pay for it."""
    searching = torch.is_anomaly_enabled()
    try:
        return importlib.import_module(module)
    finally:
        torch.autograd.set_detect_anomaly(searching)
