"""Features of items and knowledge graphs, in files beside the interactions."""

from pathlib import Path

import pytest
from small_data import command, random_rows, small_config, small_options, write_inter

from recbole_hstu.cli import main
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.quick_start import evaluate, run
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.errors import InputError

ITEMS = [f"i{n}" for n in range(30)]


def write(kind, header, rows):
    text = "".join("\t".join(row) + "\n" for row in [header, *rows])
    Path(f"dataset/toy/toy.{kind}").write_text(text)


def write_graph(items, head="head_id:token", entity="e{}".format):
    """Each item an entity, each entity of one of three kinds."""
    entities = [entity(n) for n, _ in enumerate(items)]
    write("link", ["item_id:token", "entity_id:token"], zip(items, entities, strict=True))
    kinds = [[one, "is", f"kind{n % 3}"] for n, one in enumerate(dict.fromkeys(entities))]
    write("kg", [head, "relation_id:token", "tail_id:token"], kinds)


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inter(random_rows())
    write_graph(ITEMS)


def test_features_in_another_order_have_other_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inter(random_rows())
    rows = [[item, f"class{n % 4}"] for n, item in enumerate(ITEMS)]
    write("item", ["item_id:token", "class:token"], rows)
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    options = {"load_col": columns, "selected_features": ["class"], "epochs": 1}
    result = run("SASRecF", "toy", config_dict=small_options("SASRecF", **options))
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    write("item", ["item_id:token", "class:token"], rows[::-1])
    with pytest.raises(InputError, match=r"other values of class, or in another order of the rows"):
        evaluate(result["checkpoint"])


def test_a_fine_tuned_s3rec_stands_by_itself(tmp_path, monkeypatch):
    """It reads the file with which it began in training alone."""
    monkeypatch.chdir(tmp_path)
    write_inter(random_rows())
    write("item", ["item_id:token", "class:token_seq"], [[item, "a b"] for item in ITEMS])
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    options = small_options("S3Rec", load_col=columns, item_attribute="class", epochs=1)
    options |= {"pretrain_epochs": 1, "save_step": 1, "MAX_ITEM_LIST_LENGTH": 10}
    run("S3Rec", "toy", config_dict={**options, "train_stage": "pretrain"})
    options |= {"train_stage": "finetune", "pre_model_path": "saved/S3Rec-toy-1.pth"}
    result = run("S3Rec", "toy", config_dict=options)
    Path("saved/S3Rec-toy-1.pth").rename("elsewhere.pth")
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    recommender = Recommender.load(result["checkpoint"], dataset="dataset/toy")
    assert len(recommender.recommend([["i1", "i2"]], k=3)) == 3
    with pytest.raises(InputError, match=r"--model=S3Rec: FileNotFoundError: .*S3Rec-toy-1.pth"):
        run("S3Rec", "toy", config_dict=options)


def test_interactions_without_an_entity_are_counted(graph, caplog):
    caplog.set_level("INFO", "recbole_hstu")
    data = load_dataset(small_config("CFKG"))
    assert "without an entity" not in caplog.text
    write_graph(ITEMS[:-3])
    fewer = load_dataset(small_config("CFKG"))
    gone = len(data.inter_feat) - len(fewer.inter_feat)
    assert gone > 0
    assert f"{gone:,} of {len(data.inter_feat):,} interactions are of items without" in caplog.text


def test_times_are_numbers(tmp_path, monkeypatch):
    """As tokens they would be numbered in the order in which they come."""
    monkeypatch.chdir(tmp_path)
    write_inter(random_rows(), header="user_id:token\titem_id:token\ttimestamp:token")
    with pytest.raises(
        InputError, match=r"are numbers, not of the type token; write timestamp:float"
    ):
        load_dataset(small_config())


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"head": "head:token"}, "requires field [head_id]"),
        (
            {"entity": lambda n: f"e{n // 2}"},
            "KeyError: kind0 (recbole.data.dataset.kg_dataset, line",
        ),
    ],
)
def test_a_graph_that_cannot_be_read(graph, capfd, spoilt, said):
    write_graph(ITEMS[:-3], **spoilt)
    assert main(command(model="CFKG")) == 2
    (line,) = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    assert line.startswith("recbole-hstu: error: --dataset=toy: ")
    assert said in line
