"""The data set of a configuration, made from its source where its files are missing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import dataset_converters
from recbole_hstu.config.config import Config
from recbole_hstu.data.loaders import create_dataset
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.installed import PROPERTIES


def load_dataset(config: Config) -> Any:
    """The data set of a configuration; known ones are downloaded and converted when missing.

    Raises:
        InputError: there is no such data set, or its files are not what they should be.
    """
    folder = Path(config["data_path"])
    if not any(folder.glob(f"{config['dataset']}*.inter")):
        try:
            made = dataset_converters.convert_by_name(config["dataset"], folder.parent)
        except dataset_converters.ConversionError as error:
            raise InputError(f"--dataset={config['dataset']}: {error}") from error
        if not made:
            raise _unknown_dataset(config["dataset"], folder)
    try:
        return create_dataset(config)
    except InputError:
        raise
    except (ValueError, KeyError) as error:  # RecBole's own checks
        reason = in_a_line(error.args[0] if error.args else error)
        raise InputError(f"--dataset={config['dataset']}: {reason}") from error


def _unknown_dataset(name: str, folder: Path) -> InputError:
    here = [p.parent.name for p in folder.parent.glob("*/*.inter")]
    known = [path.stem for path in (PROPERTIES / "dataset").glob("*.yaml")]
    near = difflib.get_close_matches(name, [*here, *known], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return InputError(
        f"--dataset={name}: {folder / name}.inter does not exist; {hint}"
        "your own data become atomic files with: python -m dataset_converters csv --help"
    )
