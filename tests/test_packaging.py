"""What gets installed: nothing is forgotten, nothing is duplicated."""

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text):
    return {line.strip() for line in text.splitlines() if line.strip()}


def test_every_package_is_listed():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ("recbole_hstu", "dataset_converters")
        for path in (ROOT / room).rglob("__init__.py")
    }
    listed = lines(setup_cfg()["options"]["packages"])
    assert listed == folders | {"recbole_hstu.properties"}


def test_all_holds_every_extra_that_users_need():
    extras = setup_cfg()["options.extras_require"]
    wanted = set()
    for name in ("text", "openai", "hyper", "plot", "parquet", "bm25"):
        wanted |= lines(extras[name])
    assert lines(extras["all"]) == wanted


def test_every_yaml_lies_where_the_wheel_looks():
    for path in (ROOT / "properties").rglob("*.yaml"):
        assert len(path.relative_to(ROOT / "properties").parts) <= 2
