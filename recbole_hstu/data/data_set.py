"""The data set of a configuration, made from its source where its files are missing."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import dataset_converters
from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError, in_a_line, refused_by_recbole
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.near_names import near_names

# What it raises for columns and rows that it does not find, of knowledge graphs above all.
_OF_RECBOLE = (AssertionError, TypeError, KeyError)


def load_dataset(config: Config) -> Any:
    """The data set of a configuration; known ones are downloaded and converted when missing.

    Raises:
        InputError: there is no such data set, or its files are not what they should be.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if Path(name).name != name:
        raise _is_a_path(name, folder)
    if not any(folder.glob(f"{glob.escape(name)}*.inter")):
        try:
            made = dataset_converters.convert_by_name(name, folder.parent)
        except dataset_converters.ConversionError as error:
            raise InputError(f"--dataset={name}: {error}") from error
        if not made:
            given = config.external_config_dict
            if "data_path" in config.base and "data_path" not in given:
                raise _gone_since(name, folder)
            raise _unknown_dataset(name, folder)
    try:
        with refused_by_recbole(f"--dataset={name}", errors=_OF_RECBOLE):
            return create_dataset(config)
    except InputError:
        raise
    except (ValueError, KeyError) as error:  # RecBole's own checks
        reason = in_a_line(error.args[0] if error.args else error)
        raise InputError(f"--dataset={name}: {reason}") from error


def _gone_since(name: str, folder: Path) -> InputError:
    """For a checkpoint that is used from another folder or on another machine."""
    seen_from = "" if folder.is_absolute() else ", seen from the folder of that run"
    return InputError(
        f"{folder / name}.inter does not exist; the checkpoint was trained on it{seen_from}: say "
        f"where {name}/ lies now, with --data_path=FOLDER"
    )


def _is_a_path(name: str, folder: Path) -> InputError:
    path = Path(name)
    if path.name in ("", ".."):  # of `.`, say: it tells no name
        path = path.resolve()
    here = [one for one in (path, folder) if one.is_dir()]
    where = f"--data_path={here[0].parent}" if here else "and its folder's parent as --data_path"
    return InputError(f"--dataset={name}: is a path; write --dataset={path.name or 'NAME'} {where}")


def _unknown_dataset(name: str, folder: Path) -> InputError:
    around = folder.parent.resolve()
    if around.name == name and (around / f"{name}.inter").is_file():
        return InputError(
            f"--data_path={folder.parent}: is the data set's own folder; name the one around it, "
            f"--data_path={around.parent}"
        )
    if not folder.parent.is_dir() and str(folder.parent) != "dataset":
        return _no_data_path(folder.parent)
    here = [p.parent.name for p in folder.parent.glob("*/*.inter")]
    known = [path.stem for path in (PROPERTIES / "dataset").glob("*.yaml")]
    near = [] if name in known else near_names(name, (*here, *known))
    hint = f"did you mean {near[0]}? " if near else ""
    return InputError(
        f"--dataset={name}: {folder / name}.inter does not exist; {hint}"
        f"your own data become atomic files with: {command('convert')} csv --help"
    )


def _no_data_path(path: Path) -> InputError:
    """For a folder of data sets that is not there: the nearest one that is."""
    around = path.parent
    beside = [one.name for one in around.iterdir() if one.is_dir()] if around.is_dir() else []
    near = near_names(path.name, beside)
    hint = f"did you mean {around / near[0]}?" if near else "data sets lie in dataset/ without it"
    return InputError(f"--data_path={path}: there is no such folder; {hint}")
