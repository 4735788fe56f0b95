"""Where the package's own YAML files lie."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
# Installed as recbole_hstu/properties; in a checkout the folder stands beside the package.
PROPERTIES = next(
    (p for p in (_PACKAGE / "properties", _PACKAGE.parent / "properties") if p.is_dir()),
    _PACKAGE / "properties",
)
