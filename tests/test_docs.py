"""Every shell command of the documentation: its options are read by the code that would read them,
and it is run in a small form, or a mark says why not."""

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from shell import words_of

from dataset_converters.arguments import parse
from recbole_hstu.cli import main
from recbole_hstu.config.command_line import read_options
from recbole_hstu.queries.make_queries import own_options
from recbole_hstu.semantic_ids.make_ids import split_options
from recbole_hstu.studies.compare import STUDY_OPTIONS
from recbole_hstu.studies.compare_file import read_variants
from recbole_hstu.studies.plan import named_models, plan_runs
from recbole_hstu.support.commands.command_help import about

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(
    r"python (?:run_recbole|run_hyper|benchmarks/)"
    r"|python -m (?!venv)|(?:recbole-hstu|torchrun|make|pip|hf) "
)
SCRIPTS = {
    "python run_recbole.py": "recbole-hstu run",
    "python run_hyper.py": "recbole-hstu tune",
    "python -m dataset_converters": "recbole-hstu convert",
    "torchrun --nproc_per_node=2 run_recbole.py": "recbole-hstu run",
}
# Why a command is not run by a test. The first mark that fits counts.
MARKS = {
    "network: installs or downloads": r"make (?!docs)|pip |hf |--model=HSTUBLaIR|musical_instr"
    r"|convert (?:amazon2023|steam)|reproduce",
    "data that nobody carries": r"Electronics_sample|steam|ml-1m|RAW|FOLDER|DIR|toys2014"
    r"|saved/[\w-]+-\.\.\.\.|queries\.json|--config shop.yaml|USER@HOST|orders\.csv \.\.\."
    r"|\"client no\"",
    "GPUs, or several processes": r"--nproc|torchrun|--gpu_id",
    "trains for minutes; its figures stand beside it": r"benchmarks/|\$DATA|--compare="
    r"|--seeds=1,2,3|--MAX_ITEM_LIST_LENGTH=50",
    "another test runs it": r"[Mm]arkov|-m pytest|make docs|results/ml-100k-recbole|--help"
    r"|--algo=bayes|hstu serve ",
}
SMALL = {"limit_users": 25, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 5, "max_trials": 1}


def blocks(text):
    """Lines of code, those that end in a backslash joined with the next."""
    text = re.sub(r"\\\n\s*", "", text)
    fenced = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    for line in [*(one for block in fenced for one in block.splitlines()), *indented]:
        yield line.split("   #")[0].strip()


def commands():
    """Page and command, with the name that the installed command has."""
    for page in PAGES:
        for line in dict.fromkeys(blocks(page.read_text())):
            if PROGRAM.match(line):
                for script, installed in SCRIPTS.items():
                    line = line.replace(script, installed, 1) if line.startswith(script) else line
                yield page.relative_to(ROOT).as_posix(), line


def mark(line):
    return next((why for why, pattern in MARKS.items() if re.search(pattern, line)), None)


COMMANDS = list(dict.fromkeys(commands()))
RUN = [line for _, line in COMMANDS if not mark(line)]


def test_the_documentation_is_read():
    assert len(COMMANDS) > 50
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/index.md", "docs/tuning.md"}
    assert 5 < len(RUN) < len(COMMANDS)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_is_understood(page, line):
    words = shlex.split(re.sub(r"\$\w+|\.\.\.", "", line))
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "python":
        files = [word for word in words[1:] if word.startswith(("benchmarks/", "tests/"))]
        assert files
        assert all((ROOT / file).exists() for file in files)
    elif words[0] == "recbole-hstu":
        understood(words[1], words[2:])


def understood(name, words):
    if name == "convert":
        with pytest.raises(SystemExit) if "--help" in words else nullcontext():
            parse(words, "recbole-hstu convert")
        return
    options = read_options([word for word in words if word.startswith("--")])
    options.pop("help", None)
    if name == "ids":
        options = split_options(
            {k: v for k, v in options.items() if k not in ("out", "quantiser")}
        )[2]
    if name == "queries":
        own_options(options)
    if name in ("report", "recommend", "export", "serve"):
        assert set(options) <= {one.partition("=")[0][2:] for one in about(name)["options"]}
        return
    own = {option.partition("=")[0][2:] for option in about("tune")["options"]}
    for key in (*STUDY_OPTIONS, *(own if name == "tune" else ()), "config_files"):
        options.pop(key, None)
    models = str(options.pop("model", "HSTUText" if name in ("encode", "ids") else "HSTU"))
    dataset = options.pop("dataset", "ml-100k")
    if "markov" not in models:
        plan_runs(named_models(models.split(",")), dataset, (), options, None)


def test_the_others_run_in_a_small_form():
    """In the order of the pages, in one folder: later ones use what earlier ones have made."""
    rng = np.random.default_rng(0)
    rows = [f"c{u},a{rng.integers(60)},{9**9 + 99 * t}" for u in range(30) for t in range(8)]
    Path("orders.csv").write_text("\n".join(["customer,article,when", *rows]))
    items = [f"a{i},title {i},word{i % 7}" for i in range(60)]
    Path("articles.csv").write_text("\n".join(["article,title,descr", *items]))
    done = set()
    for line in RUN:
        name, *words = words_of(line)[1:]
        if name in ("run", "tune"):
            given = read_options(words)
            small = {
                k: v for k, v in SMALL.items() if k in given or k not in ("max_trials", "seeds")
            }
            words = [word for word in words if word[2:].partition("=")[0] not in small]
            words += [f"--{key}={value}" for key, value in small.items()]
        if frozenset(words) not in done:
            assert main([name, *words]) == 0, line
        done.add(frozenset(words))


def test_what_the_searches_chose_can_be_trained():
    """The command of README.md's first table reads this file."""
    variants = read_variants(ROOT / "docs/results/ml-100k/searched.yaml")
    plan = plan_runs(variants, "ml-100k", (), {"mask_seen": True}, [1])
    labels = {run.label for run in plan}
    assert labels >= {"SASRec", "SASRecSS", "HSTU", "HSTUText", "BERT4Rec", "GRU4Rec"}
