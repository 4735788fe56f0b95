"""What rows of one table have unlike stands below it."""

from recbole_hstu.config.config import Config
from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.reports.comparison_table import comparison_table


def run(label, seed=1, view="user", device="cpu", release="0.2", **config):
    return RunRecord(
        *(label, "toys", seed, "paper"),
        config={"query_time": None, "recent_days": None, **config},
        metrics={"hit@10": 0.1},
        epochs=7,
        train_view=view,
        device=device,
        versions={"recbole_hstu": release},
    )


def test_what_rows_have_unlike_is_told():
    hstu = run("HSTU", windows="last", query_time="target")
    assert comparison_table([hstu, run("SASRec", view="window")]).legend == (
        "Learn from the last events of a user alone (windows: last): HSTU.",
        "Read the time of the request: HSTU.",
    )
    hstu = run("HSTU", windows="last", train_events=201, MAX_ITEM_LIST_LENGTH=200)
    assert comparison_table([hstu, run("SASRec", view="window")]).legend == ()
    counts = run("counts", windows="all", recent_days=[4])
    assert comparison_table([counts, run("SASRec", view="window")]).legend == (
        "Read the time of the request: counts.",
    )


def test_a_knowledge_graph_leaves_items_out():
    kind = Config("CFKG", "ml-100k").plain()["MODEL_TYPE"]
    assert comparison_table([run("CFKG", MODEL_TYPE=kind), run("BPR")]).legend == (
        "Judged on items of a knowledge graph alone: CFKG.",
    )


def test_what_all_rows_have_is_not_told():
    rows = [run(name, windows="last", query_time="target") for name in ("HSTU", "HSTUText")]
    assert comparison_table(rows).legend == ()


def test_machines_times_and_releases():
    first = run("HSTU", train_seconds=60)
    others = [
        run("HSTU", 2, device="cuda", train_seconds=60),
        run("SASRec", train_seconds=None, release="0.1"),
    ]
    assert comparison_table([first, *others]).legend[1:] == (
        "Not alike: device (cpu, cuda).",
        "Not alike: train_seconds (60, None).",
        "Not alike: release of recbole_hstu (0.2, 0.1).",
    )
