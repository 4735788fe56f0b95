"""reproduce: a paper's table rehearsed on made-up data under the paper's names."""

import csv
from pathlib import Path

import pytest
from small_data import random_rows, write_inter

from recbole_hstu.cli import main
from recbole_hstu.config.config import PROPERTIES
from recbole_hstu.config.model_registry import OWN_MODELS
from recbole_hstu.records.rank_file import read_rank_file
from recbole_hstu.records.run_record import read_records
from recbole_hstu.studies.reproduce import published
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import load_yaml


def test_every_published_figure_is_whole():
    for name, entry in load_yaml(PROPERTIES / "reproduce.yaml").items():
        for dataset, rows in entry.get("figures", {}).items():
            paper = published(name, dataset)
            assert set(rows) == set(paper.models)
            for figures in paper.figures.values():
                assert set(figures) == set(paper.metrics)
                assert all(0 < value < 1 for value in figures.values())
            assert set(paper.models.values()) <= {*OWN_MODELS, "HSTU-large"}
    assert published("ml-1m", None).figures["HSTU-large"]["ndcg@10"] == 0.1893
    table = published("table2", "steam").figures["HSTU-BLaIR"]
    assert (table["hit@10"], table["mrr"]) == (0.11, 0.0523)


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("table3", "steam", "no such table; known are table2, ml-1m, ablation"),
        ("table2", None, "--dataset is missing; known are video_games"),
        ("table2", "ml-1m", "--dataset ml-1m: table2 has no such data set"),
    ],
)
def test_what_no_paper_has(name, dataset, message):
    with pytest.raises(InputError, match=message):
        published(name, dataset)


def test_a_rehearsal_is_resumable_and_says_what_it_is(capfd):
    write_inter(random_rows(n_users=90, n_items=230), name="ml-1m")
    line = ["reproduce", "ml-1m", "--epochs=1", "--limit_users=80", "--show_progress=False"]
    line += ["--model=SASRec,HSTU", "--num_negatives=8"]
    assert main(line) == 0
    out = capfd.readouterr().out
    assert "A rehearsal, not comparable with the paper: epochs=1, limit_users=80" in out
    lines = [row.split() for row in out.splitlines()]
    assert ["paper", "0.2853", "0.1603"] in lines
    assert ["paper", "0.3097", "0.1720"] in lines
    folder = Path("results/reproduce-ml-1m-ml-1m-rehearsal")
    records = read_records(folder)
    assert [(r.label, r.model, r.seed, r.epochs) for r in records] == [
        ("HSTU", "HSTU", 42, 1),
        ("SASRec", "SASRecSS", 42, 1),
    ]
    ours = records[0].metrics["hit@10"]
    row = next(row for row in lines if row[:1] == ["HSTU"])
    assert float(row[1]) == pytest.approx(ours, abs=1e-4)
    difference = lines[lines.index(row) + 2]
    assert difference == ["difference", *difference[1:]]
    assert float(difference[1].rstrip("%")) == pytest.approx(100 * (ours / 0.3097 - 1), abs=0.06)
    assert "rehearsal" in (folder / "reproduce.md").read_text()
    assert main(line) == 0
    again = capfd.readouterr()
    assert again.out == out
    assert again.err.count("finished before") == 2


def test_an_ablation_stands_beside_its_first_row_and_the_papers_direction(capfd):
    write_inter(random_rows(n_users=90, n_items=230), name="own")
    line = [
        "reproduce",
        "ablation",
        "--dataset=own",
        "--epochs=1",
        "--seeds=1",
        "--num_negatives=8",
        "--protocol=paper",
    ]
    assert main([*line, "--model=HSTU,no bias and softmax", "--show_progress=False"]) == 0
    out = capfd.readouterr().out
    first, second = (read_records(Path("results/reproduce-ablation-own-rehearsal")))[:2]
    assert (second.config["relative_bias"], second.config["attention"]) == ("none", "softmax")
    change = 100 * (second.metrics["hit@50"] / first.metrics["hit@50"] - 1)
    lines = out.splitlines()
    place = next(i for i, text in enumerate(lines) if text.startswith("no bias and softmax"))
    assert float(lines[place + 1].split()[2].rstrip("%")) == pytest.approx(change, abs=0.06)
    assert "no bias and softmax: in the paper worse still" in out
    assert "1 epochs, the last epoch reported" in out


def test_rows_that_the_paper_does_not_have(capfd):
    assert main(["reproduce", "ml-1m", "--model=GRU4Rec"]) == 2
    assert "has the rows SASRec, HSTU, HSTU-large" in capfd.readouterr().err


def test_a_report_of_a_study(toy, capfd):
    line = ["run", "--model=Pop,BPR", "--dataset=toy", "--seeds=1", "--epochs=2", "--topk=[5]"]
    assert main([*line, "--valid_metric=NDCG@5", "--show_progress=False"]) == 0
    capfd.readouterr()
    arguments = ["--baseline=Pop", "--metrics=hit@7,hit@5"]
    assert main(["report", "results/toy-recbole", *arguments]) == 0
    written = capfd.readouterr().out.split()
    assert Path(written[-1]) == Path("results/toy-recbole/report/index.html")
    assert "Beyond accuracy" in Path(written[-1]).read_text()
    rows = list(
        csv.DictReader(Path(written[-1]).with_name("toy+recbole.csv").read_text().splitlines())
    )
    for row, record in zip(rows, read_records("results/toy-recbole"), strict=True):
        ranks = read_rank_file(Path("results/toy-recbole") / record.rank_file).ranks
        assert float(row["hit@7"]) == pytest.approx((ranks <= 7).mean())
    assert main(["report", "results/toy-recbole", "--metrics=auc"]) == 2
    assert "no run has the metric auc; known are hit@5" in capfd.readouterr().err
    assert main(["report", "results/toy-recbole", "--plot_metric=hit@5,mrr"]) == 2
    assert "a plot has one metric; name one" in capfd.readouterr().err
    assert main(["report", "nowhere"]) == 2
    assert "no results here" in capfd.readouterr().err
    assert main(["report"]) == 2
