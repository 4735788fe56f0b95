"""A model's name -> its class: ours, RecBole's, those of other packages.

RecBole's own look-up of an unknown name imports its external libraries and fails with
`ModuleNotFoundError: lightgbm`; here nothing is imported until the name is known.
"""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import recbole.model
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType

from recbole_hstu.config.properties import named_configurations, recbole_name
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError, missing_package
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.near_names import near_names
from recbole_hstu.support.yaml_values import load_yaml

OWN_MODELS = {
    "COBRALite": "recbole_hstu.model.cobralite",
    "GLoSS": "recbole_hstu.model.gloss",
    "HSTU": "recbole_hstu.model.hstu",
    "HSTUText": "recbole_hstu.model.hstutext",
    "HSTUBLaIR": "recbole_hstu.model.hstublair",
    "HSTUOpenAI": "recbole_hstu.model.hstuopenai",
    "ItemGraph": "recbole_hstu.model.item_graph",
    "LIS": "recbole_hstu.model.lis",
    "Pop": "recbole_hstu.model.pop",
    "RecentPop": "recbole_hstu.model.recent_pop",
    "SASRecSS": "recbole_hstu.model.sasrecss",
    "TIGER": "recbole_hstu.model.tiger",
    "TIGERSmall": "recbole_hstu.model.tigersmall",
    "eSASRec": "recbole_hstu.model.esasrec",
    "gSASRec": "recbole_hstu.model.gsasrec",
}
ENTRY_POINTS = "recbole_hstu.models"


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


def model_names() -> set[str]:
    """Every name that `find_model` knows: models, configurations and entry points."""
    others = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    return {*OWN_MODELS, *recbole_models(), *named_configurations(), *others}


def address(model_class: type) -> str:
    """`package.module:Class`, by which `find_model` finds a class again, in any process that can
    import its module."""
    return f"{model_class.__module__}:{model_class.__qualname__}"


def find_model(name: str) -> type:
    """The class of a model.

    Args:
        name: of a model of this package, of RecBole or of an entry point; of a configuration
            (`properties/model/NAME.yaml` with `model_class`); or `package.module:Class`.

    Raises:
        InputError: no such model, one of two models, a class that is no model of RecBole's kind,
            or a library that it wraps is missing.
    """
    if ":" in name:
        return _at(name, name)
    file = PROPERTIES / "model" / f"{name}.yaml"
    is_ours = Path(name).name == name and file.is_file()
    known = load_yaml(file).get("model_class", name) if is_ours else name
    module = OWN_MODELS.get(known) or recbole_models().get(known)
    places = {entry.value for entry in entry_points(group=ENTRY_POINTS, name=name)}
    places |= {f"{module}:{known}"} if module else set()
    if len(places) > 1:
        raise InputError(
            f"--model={name}: is the name of several models; use {' or '.join(sorted(places))}"
        )
    if not places:
        raise _unknown_model(name)
    return _at(places.pop(), name)


def _at(place: str, name: str) -> type:
    module, _, path = place.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"--model={name}: expected module:Class, as in --model=markov:Markov")
    if str(Path.cwd()) not in sys.path:  # as `python -m` has it: models of one's own lie there
        sys.path.append(str(Path.cwd()))
    try:
        found: Any = _import(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"--model={name}: {missing_package(error)}") from error
        mend = "it must lie in this folder, on PYTHONPATH, or be installed"
        if module.endswith(".py"):
            mend = f"write --model={module.removesuffix('.py')}:{path}"
        raise InputError(f"--model={name}: there is no module {error.name}; {mend}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            file = getattr(found, "__file__", "built in")  # perhaps not the file that was meant
            raise InputError(f"--model={name}: the module {module} ({file}) has no class '{path}'")
        found = getattr(found, part)
    if not isinstance(found, type) or not isinstance(getattr(found, "type", None), ModelType):
        raise InputError(
            f"--model={name}: is no model; derive it from one of RecBole's, such as "
            "recbole.model.abstract_recommender.SequentialRecommender (docs/extending.md)"
        )
    return found


def check_methods(model_class: Any, name: str) -> None:
    """Whether a model of one's own can train and rank, before any data are read.

    Raises:
        InputError: a method is missing.
    """
    if not recbole_name(model_class).endswith("Recommender"):  # derived from a whole model
        return

    def lacks(method: str) -> bool:
        return getattr(model_class, method) is getattr(AbstractRecommender, method)

    if lacks("calculate_loss"):
        raise InputError(f"--model={name}: has no method calculate_loss (docs/extending.md)")
    if lacks("full_sort_predict") and lacks("predict"):
        raise InputError(
            f"--model={name}: has no method full_sort_predict, nor predict (docs/extending.md)"
        )


def _unknown_model(name: str) -> InputError:
    here = name.removesuffix(".py")
    if Path(f"{here}.py").is_file():
        return InputError(f"--model={name}: to name a class of {here}.py write {here}:Class")
    near = near_names(name, model_names(), n=3, cutoff=0)
    return InputError(
        f"--model={name}: no such model; did you mean {', '.join(near[:-1])} or {near[-1]}? "
        f"{command('run')} --help names all"
    )


def _import(module: str) -> ModuleType:
    """RecBole's SINE, which comes along with any sequential model, switches autograd's search for
    anomalies on: every training of the process would pay for it."""
    searching = torch.is_anomaly_enabled()
    try:
        return importlib.import_module(module)
    finally:
        torch.autograd.set_detect_anomaly(searching)
