"""A model that generates ids, served: the beam, exact lists, items that no training has seen."""

from pathlib import Path

import pytest
import torch
from served import events, trained
from small_data import random_rows, write_inter
from toy_ids import LEVELS, drawn_codes, write_toy_ids

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.data.files.semantic_id_file import write_semantic_ids
from recbole_hstu.quick_start import evaluate
from recbole_hstu.support.errors import InputError

HISTORY = [["i1", "i2", "i7"], ["i3"]]
IDS = "dataset/toy/toy.rkmeans.ids.safetensors"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("models"))
        write_inter(random_rows())
        write_toy_ids()
        found = trained("TIGERSmall", epochs=1, beam_size=6, metrics=["Hit", "NDCG"])
        return found | {"checkpoint": found["checkpoint"].resolve()}


@pytest.fixture
def file(result):
    return result["checkpoint"]


def test_a_checkpoint_holds_the_ids(file):
    """Neither the data set nor the file of ids is in this test's folder."""
    rec = Recommender.load(file)
    assert len(rec.recommend(HISTORY, k=5)) == 10


def test_a_list_is_what_a_beam_finds_and_as_long_as_asked(file):
    rec = Recommender.load(file)
    by_beam = rec.recommend(HISTORY, k=20)
    rec.index = None
    exact = rec.recommend(HISTORY, k=20)
    both = by_beam.merge(exact, on=["user", "item"])
    assert both["score_x"].to_numpy() == pytest.approx(both["score_y"].to_numpy(), abs=1e-5)
    assert by_beam.groupby("user").size().tolist() == [20, 20]
    seen = {(0, "i1"), (0, "i2"), (0, "i7"), (1, "i3")}
    assert not seen & set(zip(by_beam["user"], by_beam["item"], strict=True))
    assert by_beam["score"].diff().dropna().drop(20).le(0).all()


def test_a_list_does_not_depend_on_the_others_of_its_batch(file):
    rec = Recommender.load(file)
    histories = [[f"i{n}" for n in range(length)] for length in (1, 2, 20)]
    together = rec.recommend(histories, k=4)
    for user, history in enumerate(histories):
        alone = rec.recommend([history], k=4)
        own = together[together["user"] == user]
        assert own["item"].tolist() == alone["item"].tolist()
        assert own["score"].to_numpy() == pytest.approx(alone["score"].to_numpy(), abs=1e-5)


def test_a_beam_over_everything_gives_the_exact_lists(file):
    rec = Recommender.load(file)
    by_beam = rec.recommend(HISTORY, k=30, exclude_seen=False)
    rec.index = None
    exact = rec.recommend(HISTORY, k=30, exclude_seen=False)
    assert by_beam["item"].tolist() == exact["item"].tolist()


def test_chosen_candidates_have_exact_scores(file):
    rec = Recommender.load(file)
    some = rec.recommend(HISTORY, k=2, candidates=["i9", "i20"], exclude_seen=False)
    assert some.groupby("user").size().tolist() == [2, 2]
    assert rec.scores(HISTORY[1], ["i9"])[0] == pytest.approx(
        some.query("user == 1 and item == 'i9'")["score"].item()
    )


def test_new_items_are_generated_by_their_ids(file):
    """A file of the old items and two more: they stand in lists and in histories."""
    path = write_toy_ids("more.ids.safetensors", n_items=32)
    rec = Recommender.load(file)
    before = rec.recommend(HISTORY, k=30, exclude_seen=False).set_index(["user", "item"])["score"]
    rec.add_items(path)
    lists = rec.recommend(HISTORY, k=32, exclude_seen=False).set_index(["user", "item"])["score"]
    assert {"i30", "i31"} <= set(lists.loc[0].index)
    assert lists.loc[0].map(torch.tensor).map(torch.exp).sum() == pytest.approx(1, abs=1e-4)
    assert (lists[before.index] <= before + 1e-5).all()  # probability goes to the new ones alone
    assert len(rec.recommend([["i1", "i31"]], k=30)) == 30
    other = Recommender.load(file)
    codes = drawn_codes(32)[30:].tolist()
    other.add_items({"i30": codes[0], "i31": codes[1]})
    assert other.recommend(HISTORY, k=32, exclude_seen=False)["score"].tolist() == pytest.approx(
        lists.tolist()
    )


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({"new": [0, 9, 0]}, r"1 items have codes .* levels of \[4, 5, 3\] codes .*: new; give"),
        ({"new": [0, -1, 0]}, "1 items have codes that the training's levels"),
        ({"new": [0, 0, 3]}, r"only 3 last codes, none for these: new; leave them out, or train"),
        ({"new": [0, 1]}, "3 codes an item, not as for new"),
        ({"new": [0, 2**70, 1]}, "are no codes"),
        ({"new": [0, 1.5, 1]}, r"item new: \[0, 1.5, 1\] are no codes"),
        ({"new": drawn_codes(1)[0].tolist()}, "items i0 and new have one id, "),
        ({"i1": [0, 0, 0], "new": [1, 1, 1]}, "1 items have other semantic ids than in the train"),
        ({"i0": drawn_codes(1)[0].tolist()}, "knows all of these items already"),
        ({"new": {"title": "red"}}, "are no codes; expected"),
        ({None: [0, 0, 0]}, "None is not an item token"),
        ({"": [0, 0, 0]}, "'' is not an item token"),
        ({True: [0, 0, 0]}, "True is not an item token"),
        ({"\ud800x": [0, 0, 0]}, r"the token '\\ud800x' holds half a character"),
        ({5: [0, 0, 0], "5": [1, 1, 1]}, "given as a number and as a text; give it once"),
        ("nowhere.ids.safetensors", "cannot be read"),
    ],
)
def test_codes_that_are_no_id_are_refused(file, items, words):
    rec = Recommender.load(file)
    with pytest.raises(InputError, match=words):
        rec.add_items(items)
    assert len(rec.items) == 31
    assert rec.saved.model.n_items == 31


def test_an_error_names_the_file_of_the_items(file):
    Path("new.jsonl").write_text('{"item": "new", "title": "red"}')
    with pytest.raises(InputError, match=r"^new.jsonl: item new: .* are no codes"):
        Recommender.load(file).add_items("new.jsonl")


def test_the_command_takes_a_file_of_ids(file, capsys):
    write_toy_ids("more.ids.safetensors", n_items=32)
    events().query("user == 'u3'").to_csv("users.csv", index=False)
    told = ["--histories=users.csv", "--out=lists.csv", "--k=25"]
    assert main(["recommend", str(file), *told, "--new_items=more.ids.safetensors"]) == 0
    assert {"i30", "i31"} <= set(Path("lists.csv").read_text().replace("\n", ",").split(","))


def test_the_command_names_the_file_and_the_items_that_have_no_last_code(file, capsys):
    tokens, codes = [f"i{n}" for n in range(31)], drawn_codes(30)
    further = [*codes[0][:-1], 3]
    sizes = (*LEVELS[:-1], 4)
    write_semantic_ids("more.ids.safetensors", tokens, [*codes, further], sizes, {})
    events().query("user == 'u3'").to_csv("users.csv", index=False)
    told = ["--histories=users.csv", "--out=lists.csv", "--new_items=more.ids.safetensors"]
    assert main(["recommend", str(file), *told]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "more.ids.safetensors: 1 items share" in said and "these: i30; leave them out" in said
    assert not Path("lists.csv").exists()


def test_a_checkpoint_of_other_ids_is_refused(result, toy):
    write_toy_ids()
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    write_toy_ids(seed=1)
    with pytest.raises(InputError, match="was trained with other semantic ids; name their file"):
        evaluate(result["checkpoint"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--beam_size=0"], "beam_size: 0 must be a whole number from 1 on"),
        (
            ["--semantic_ids=none.safetensors"],
            "=none.safetensors: is no file, and no method",
        ),
        (["--semantic_ids=rkmens"], "is no file, and no method (rkmeans, rqvae); did you mean rkm"),
        (["--semantic_ids=rqvae"], "make it with recbole-hstu ids --dataset=toy --method=rqvae"),
        (["--semantic_ids=own.csv"], "name a file of recbole-hstu ids"),
        ([], "30 of 30 items have no semantic id"),
    ],
)
def test_bad_input_of_a_run_is_one_line(toy, capfd, options, words):
    write_semantic_ids(IDS, ["x", "y"], drawn_codes(2), LEVELS, {})
    Path("own.csv").write_text("item,title\n")
    small = ["--epochs=1", "--topk=[5]", "--valid_metric=NDCG@5"]
    assert main(["run", "--model=TIGERSmall", "--dataset=toy", *small, *options]) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert words in said[-1] and "delete" not in said[-1]
    assert not Path("saved").exists()
