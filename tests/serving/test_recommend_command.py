"""`recbole-hstu recommend`: files in, one file out, whole or not at all."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from served import all_but_last, events, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.serving.events_of_users import read_events
from recbole_hstu.serving.files import recommend_file, request_files
from recbole_hstu.serving.files.table_files import table_file
from recbole_hstu.serving.times import whole_numbers
from recbole_hstu.support.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small HSTU, and its data set's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("model"))
        toy_with_text()
        return trained("HSTU")["checkpoint"].resolve(), Path("dataset/toy").resolve()


LATE = 2 * 10**12


def recommend(model, *options, out="recs.csv", without=None):
    file, data = model
    given = [f"--dataset={data}", "--k=4", f"--at={LATE}", f"--out={out}"]
    named = {without, *(option.split("=")[0] for option in options)}
    given = [option for option in given if option.split("=")[0] not in named]
    return main(["recommend", str(file), *given, "--show_progress=False", *options])


def read(path):
    kind = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if Path(path).suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return kind[Path(path).suffix](path)


@pytest.mark.parametrize("out", ["recs.csv", "recs.jsonl", "deep/recs.parquet"])
def test_all_users(model, out, capsys, monkeypatch):
    monkeypatch.setattr(recommend_file, "NAMES_AT_ONCE", 7)
    assert recommend(model, "--all_users", out=out) == 0
    assert "160 rows for 40 users" in capsys.readouterr().out
    found = read(out)
    rec = Recommender.load(model[0])
    expected = rec.recommend_users(found["user"].unique(), model[1], k=4, at=LATE)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-6)


@pytest.mark.parametrize("out", ["recs.csv", "recs.jsonl", "recs.parquet"])
def test_a_batch_without_rows_is_no_row(model, out, capsys, monkeypatch):
    """Everybody in it has seen the only candidate."""
    monkeypatch.setattr(recommend_file, "NAMES_AT_ONCE", 1)
    Path("few.txt").write_text("i3\n")
    saw = set(events().query("item == 'i3'")["user"])
    ask = ("--all_users", "--candidates=few.txt", "--k=1")
    assert recommend(model, *ask, out=out) == 0
    assert f"{40 - len(saw)} rows for 40 users; {len(saw)} rows fewer" in capsys.readouterr().out
    assert saw
    assert set(read(out)["user"]) == {f"u{n}" for n in range(40)} - saw
    Path("users.txt").write_text("\n".join(sorted(saw)))
    assert recommend(model, "--users=users.txt", *ask[1:], out=out) == 0
    assert "0 rows for" in capsys.readouterr().out


def test_names_may_hold_what_python_takes_for_the_end_of_a_line(in_empty_folder):
    Path("names.txt").write_text("a\u2028b\r\n\nc\x85\n", encoding="utf-8", newline="")
    assert request_files.read_names("names.txt") == ["a\u2028b", "c\x85"]


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (["--users=names.txt"], "u3", "1 users have no event"),
        (["--all_users", "--candidates=names.txt"], "i3", "items that the model does not know"),
    ],
)
def test_spaces_at_the_ends_of_a_line_belong_to_the_name(model, capsys, options, name, words):
    """The list of another user is no answer."""
    Path("names.txt").write_text(f"{name}\n {name} \n", encoding="utf-8")
    assert recommend(model, *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"names.txt: {words}" in said
    assert f"names with spaces at an end in this file: 1, such as ' {name} '" in said


def histories_file(kind, table):
    path = Path(f"histories.{kind}")
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "parquet":
        table.to_parquet(path, index=False)
    else:
        with path.open("w") as file:
            for user, part in table.groupby("user", sort=False):
                history = part[["item", "time"]].values.tolist()
                line = {"user": user, "history": history}
                if "at" in part:
                    line["at"] = int(part["at"].iloc[0])
                file.write(json.dumps(line) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows_at_once", [3, 10**5])
def test_histories_of_every_kind(model, kind, rows_at_once, monkeypatch):
    """Parts that end inside a user's rows change nothing."""
    monkeypatch.setattr(request_files, "ROWS_AT_ONCE", rows_at_once)
    histories, targets = all_but_last(events())
    table = histories.sort_values("user", kind="stable")
    file = histories_file(kind, table.assign(at=table["user"].map(targets["time"])))
    assert recommend(model, f"--histories={file}", without="--at") == 0
    expected = Recommender.load(model[0]).recommend(table, k=4, at=targets["time"])
    pd.testing.assert_frame_equal(read("recs.csv"), expected, check_dtype=False, atol=1e-6)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_users_without_a_time_of_their_own_have_that_of_the_option(model, kind, capsys):
    own = 1_700_000_000_001
    table = pd.DataFrame({"user": ["a", "a", "b"], "item": ["i1", "i2", "i3"], "time": [5, 6, 7]})
    at = pd.Series([own, own, None], dtype="Int64")
    if kind == "jsonl":
        lines = [
            {"user": "a", "history": [["i1", 5], ["i2", 6]], "at": own},
            {"user": "b", "history": [["i3", 7]]},
        ]
        file = Path("histories.jsonl")
        file.write_text("\n".join(map(json.dumps, lines)))
    else:
        file = histories_file(kind, table.assign(at=at))
    assert recommend(model, f"--histories={file}", "--at=900") == 0
    expected = Recommender.load(model[0]).recommend(table, k=4, at={"a": own, "b": 900})
    pd.testing.assert_frame_equal(read("recs.csv"), expected, check_dtype=False, atol=1e-6)
    capsys.readouterr()
    assert recommend(model, f"--histories={file}", without="--at") == 2
    assert "no time of the request (at) for the users b; --at=TIME" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_are_read_exactly(kind):
    own = 2**60 + 1  # which no float holds
    table = pd.DataFrame({"user": ["a", "b"], "item": ["i1", "i2"], "time": [own, own]})
    file = histories_file(kind, table.assign(at=pd.Series([own, None], dtype="Int64")))
    read_back = pd.concat(request_files.read_history_file(file), ignore_index=True)
    assert read_back["time"].tolist() == [own, own]
    assert read_back["at"][0] == own


def test_a_model_without_times_needs_no_time_of_a_request(toy):
    file = trained("SASRec")["checkpoint"]
    Path("some.csv").write_text("user,item,time,at\na,i1,5,9\nb,i2,6,\n")
    assert main(["recommend", str(file), "--histories=some.csv", "--k=3", "--out=recs.csv"]) == 0
    assert read("recs.csv")["user"].tolist() == ["a"] * 3 + ["b"] * 3


def test_chosen_users_and_items(model, capsys):
    Path("users.txt").write_text("u7\nu2\n")
    Path("some.txt").write_text("i1\ni2\ni3\ni4\ni5\n")
    Path("not.txt").write_text("i5\n")
    options = ["--users=users.txt", "--candidates=some.txt", "--exclude=not.txt"]
    assert recommend(model, *options, "--exclude_seen=False") == 0
    found = read("recs.csv")
    assert found["user"].unique().tolist() == ["u7", "u2"]
    assert set(found["item"]) == {"i1", "i2", "i3", "i4"}


def test_unknown_items_are_counted(model, capsys):
    table = pd.DataFrame({"user": ["a", "a", "b"], "item": ["i1", "new", "new"], "time": [5, 6, 7]})
    file = histories_file("csv", table)
    assert recommend(model, f"--histories={file}") == 0
    out = capsys.readouterr().out
    assert "4 rows for 1 users" in out
    assert "2 events of unknown items, 1 users" in out
    assert recommend(model, f"--histories={file}", "--on_unknown=raise") == 2
    only_new = histories_file("csv", table[1:])
    assert recommend(model, f"--histories={only_new}") == 0
    assert Path("recs.csv").read_text() == "user,item,score,rank\n"
    assert recommend(model, f"--histories={only_new}", out="recs.jsonl") == 0
    assert not Path("recs.jsonl").read_text()
    for given, out in ((file, "some.parquet"), (only_new, "none.parquet")):
        assert recommend(model, f"--histories={given}", out=out) == 0
    some, none = (pyarrow.parquet.read_schema(out) for out in ("some.parquet", "none.parquet"))
    assert none.equals(some)


def test_small_scores_are_not_rounded_away():
    table = pd.DataFrame({"user": ["a"], "score": np.float32([1.2345679e-7])})
    with table_file("small.jsonl") as write:
        write(table)
    assert np.float32(json.loads(Path("small.jsonl").read_text())["score"]) == table["score"][0]


def test_a_model_of_names(toy, capsys):
    file = trained("BPR")["checkpoint"]
    line = ["recommend", str(file), "--k=3", "--out=recs.csv", "--exclude_seen=False"]
    assert main([*line, "--all_users"]) == 0
    assert len(read("recs.csv")) == 120
    Path("users.txt").write_text("u7\nstranger\n")
    assert main([*line, "--users=users.txt"]) == 2
    assert "error: users.txt: BPR reads 'user_id': it knows its" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,i1,5\na,i2,four\n", "row 2: time 'four' is no number\n"),
        ("a,i1,2024-07-03\n", "time '2024-07-03' is no number; .* in seconds it is 1719964800"),
        ("a,i1,5\na,i\0002,6\n", "bad.csv: line 3: holds a NUL character"),
        ("a,i1,5\na,i2,\n", "row 2: time '' is no number"),
        ("a,i1,5\na,,6\n", "row 2: no item"),
        ("a,i1,5\na,i2,4\n", "bad.csv: histories: user a: time 4 comes after 5"),
        ("a,i1,5,9\na,new,6,9\n", "bad.csv: histories: 1 of 2 .* know: new; on_unknown=ignore"),
        ("a,i1,5,9\na,i2,12,9\n", "bad.csv: at: 9 lies before the last event of user a"),
        ("a,i1,5\na,i2,NaN\n", "is no number"),
        ("a,i1,5,9,7\n", "more columns than its header"),
        ("a,i1,5,9\na,i2,6,10\n", "the rows of user a have different at; give one"),
        ("a,i1,5,9\nb,i2,6,true\n", "row 2: at 'true' is no number"),
        ("a,i1,5\nb,i2,6,soon\n", "row 2: at 'soon' is no number"),
        ("", "holds no history"),
    ],
)
def test_bad_histories_leave_the_last_file_as_it_was(model, content, words, capsys, monkeypatch):
    monkeypatch.setattr(request_files, "ROWS_AT_ONCE", 1)
    Path("recs.csv").write_text("before")
    Path("bad.csv").write_text(f"user,item,time,at\n{content}")
    assert recommend(model, "--histories=bad.csv", "--on_unknown=raise") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error), error
    assert Path("recs.csv").read_text() == "before"
    assert not list(Path().glob(".*.part"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["item", "time"])
def test_a_column_twice_is_refused(model, kind, name, capsys):
    table = pd.DataFrame({"user": ["a"], "item": ["i1"], "time": [5]})
    twice = pd.concat([table, table[[name]]], axis=1)
    if kind == "csv":
        twice.to_csv("twice.csv", index=False)
    else:
        columns = [pyarrow.array(twice.iloc[:, n]) for n in range(4)]
        twice = pyarrow.Table.from_arrays(columns, names=[*table, name])
        pyarrow.parquet.write_table(twice, "twice.parquet")
    assert recommend(model, f"--histories=twice.{kind}") == 2
    assert f"twice.{kind}: has the column {name} twice; leave" in capsys.readouterr().err


def test_the_line_of_a_nul_is_found_in_every_part(monkeypatch):
    monkeypatch.setattr(request_files, "_BLOCK", 3)
    Path("bad.csv").write_text("user,item\na,i1\nb,i2\nc,\0i3\n")
    with pytest.raises(InputError, match=r"bad\.csv: line 4: holds a NUL character"):
        list(request_files.read_history_file("bad.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--users=names.txt"], "names.txt: 1 users have no event in the data set: u99"),
        (["--all_users", "--candidates=names.txt"], "names.txt: items .* not know: u7, u99"),
        (["--all_users", "--exclude=names.txt"], "names.txt: items .* not know: u7, u99"),
        (["--all_users", "--exclude=items.txt"], "exclude: no item is left to recommend"),
        (["--histories=untimed.csv"], "untimed.csv: histories: the model reads the times"),
        (["--all_users", "--new_events=untimed.csv"], "untimed.csv: histories: the model reads"),
    ],
)
def test_the_file_with_the_error_is_named(model, options, words, capsys):
    Path("names.txt").write_text("u7\nu99\n")
    Path("items.txt").write_text("\n".join(f"i{n}" for n in range(30)))
    Path("untimed.csv").write_text("user,item\na,i1\n")
    assert recommend(model, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(f"error: {words}", error), error
    assert not Path("recs.csv").exists()


@pytest.mark.parametrize("rows_at_once", [1, 2, 10**5])
def test_a_user_in_two_places_is_noticed_wherever_parts_end(model, rows_at_once, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_files, "ROWS_AT_ONCE", rows_at_once)
        Path("bad.csv").write_text("user,item,time\na,i1,5\nb,i2,6\na,i3,7\n")
        assert recommend(model, "--histories=bad.csv") == 2
    assert "user a are in two places" in capsys.readouterr().err


def test_long_times_beside_a_float_are_not_rounded(model, capsys):
    Path("long.csv").write_text(f"user,item,time\na,i1,{2**53 + 1}\na,i2,{2**54}.0\n")
    table = pd.concat(request_files.read_history_file("long.csv"))
    assert table["time"].tolist() == [2**53 + 1, 2**54]
    assert whole_numbers([2**53 + 1, 2.0**54]).tolist() == [2**53 + 1, 2**54]


def test_a_byte_order_mark_is_no_letter_of_a_name(model):
    Path("users.txt").write_text("u7\n", encoding="utf-8-sig")
    assert recommend(model, "--users=users.txt") == 0


def test_events_without_a_user_or_an_item_are_left_out(model, caplog):
    lines = "user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\t5\n\ti2\t6\nu1\t\t7\n"
    Path("some.inter").write_text(lines)
    config = Recommender.load(model[0]).saved.config
    assert read_events(config, "some.inter")["item"].tolist() == ["i1"]
    assert "2 events without a user or an item are left out" in caplog.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"user": "a", "history": [["i1", 5]]}', "line 2: user a has a line already; give one"),
        ("nonsense", "line 2: is no JSON"),
        ("[1]", "line 2: lacks user or history"),
        ('{"user": "b"}', "line 2: lacks user or history"),
        ('{"user": "b", "history": []}', "line 2: the history of user b is empty"),
        ('{"user": "b", "history": [["i1", 5, 6]]}', "line 2: the history is no list"),
        ('{"user": "b", "history": [[null, 5]]}', "line 2: the history is no list"),
        ('{"user": true, "history": [["i1", 5]]}', "line 2: user True is no token"),
        ('{"user": "b", "history": [["i1", "x"]]}', "'x' is no number"),
        ("[" * 100_000, "line 2: is no JSON"),
        ('{"user": "b", "history": ["50"]}', "row 2: time None is no number"),
        ('{"user": "b", "history": [["i1", true]]}', "line 2: True is no time"),
        ('{"user": "b", "history": [["i1", [5]]]}', "line 2: [5] is no time"),
        ('{"user": "b", "history": [["i1", 5]], "at": true}', "line 2: True is no time"),
        ('{"user": "b", "history": [["i1", 5]], "at": NaN}', "line 2: nan is no time"),
        ('{"user": "b", "history": [["i1", 5]], "At": 9}', "line 2: unknown key 'At'; expected"),
        (
            '{"user": "b", "history": [["i1", 5]], "history": [["i2", 5]]}',
            "line 2: the key 'history' stands there twice; give it once",
        ),
        ('{"user": "\\ud800", "history": [["i1", 5]]}', "line 2: the token '\\ud800' holds half"),
        ('{"user": "b", "history": [["\\ud800", 5]]}', "line 2: the token '\\ud800' holds half"),
    ],
)
def test_bad_lines(model, line, words, capsys):
    Path("bad.jsonl").write_text('{"user": "a", "history": [["i1", 5]]}\n' + line + "\n")
    assert recommend(model, "--histories=bad.jsonl") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not Path("recs.csv").exists()


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("csv", {"At": [9]}, "unknown column 'At'; in small letters, without spaces, it is read"),
        ("csv", {" at": [9]}, "unknown column ' at'; in small letters, without spaces, it is read"),
        ("parquet", {"At": [9]}, "unknown column 'At'"),
        ("parquet", {"user": [1.5]}, "the column user holds decimal numbers (1.5); make them"),
    ],
)
def test_bad_columns(kind, changed, words):
    table = pd.DataFrame({"user": ["a"], "item": ["i1"], "time": [5]} | changed)
    with pytest.raises(InputError) as caught:
        list(request_files.read_history_file(histories_file(kind, table)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--all_users", "--out=recs.txt"], ".csv, .jsonl, .parquet"),
        (["--all_users", "--out=None"], "--out: has no value; give it one, or leave it out"),
        ([], "name one of"),
        (["--all_users", "--users=x"], "name one of"),
        (["--all_users", "--user=x"], "did you mean 'users'"),
        (["--users=absent.txt"], "absent.txt: cannot be read"),
        (["--histories=absent.csv"], "absent.csv: no such file"),
        (["--histories=absent.txt"], "histories are read from"),
        (["--all_users", "--at=5"], "lies before the last event"),
        (["--all_users", "--at=[5, 6]"], "--at: [5, 6] is no time"),
        (["--all_users", "--at=soon"], "--at: 'soon' is no time\n"),
        (["--all_users", "--at=2024-07-03"], "in seconds it is 1719964800 (UTC)"),
        (["--all_users", "--at=1720000000"], "at: 1720000000 is in seconds, and the times of"),
        (["--all_users", "--exclude=None"], "--exclude: has no value; give it one, or leave it"),
        (["--all_users", "--k=0"], "k: 0"),
        (["--all_users", "--k=31"], "k: 31"),
        (["--all_users", "--dataset=nowhere"], "dataset: nowhere: nothing is there; name a folder"),
        (["--all_users", "--exclude_seen=5"], "must be True or False"),
        (["--users"], "--users names nothing; write --users=NAME"),
        (["--all_users", "--candidates"], "--candidates names nothing"),
        (["--all_users", "--device"], "--device: True is no name"),
        (["--all_users", "--stand_in=mean"], "name their file with --new_items"),
    ],
)
def test_bad_options(model, options, words, capsys):
    assert recommend(model, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not Path("recs.csv").exists()
    assert main(["recommend"]) == 2


@pytest.mark.parametrize("option", ["--at", "--out"])
def test_an_option_that_is_needed(model, option, capsys):
    words = {"--at": "reads the time of the request, in the unit of the events; give one, such as"}
    assert recommend(model, "--all_users", without=option) == 2
    assert words.get(option, "--out is missing; name a .csv") in capsys.readouterr().err


def test_a_user_twice_is_refused_at_once(model, capsys, monkeypatch):
    monkeypatch.setattr(recommend_file, "NAMES_AT_ONCE", 1)
    Path("users.txt").write_text("u7\nu2\nu7\n")
    assert recommend(model, "--users=users.txt") == 2
    assert capsys.readouterr().err.endswith("error: users.txt: users twice: u7\n")


@pytest.mark.parametrize("name", ["some.csv", "some.jsonl"])
def test_a_file_that_cannot_be_read_is_named(model, name, capsys, monkeypatch):
    """It is read while the other file is written."""
    honest = Path.open

    def locked(path, *how, **options):
        if str(path) == name:
            raise PermissionError(13, "Permission denied")
        return honest(path, *how, **options)

    Path(name).write_text("")
    monkeypatch.setattr(Path, "open", locked)
    monkeypatch.setattr(pd, "read_csv", locked)
    assert recommend(model, f"--histories={name}") == 2
    assert f"{name}: cannot be read (Permission denied)" in capsys.readouterr().err


def test_the_file_to_read_is_not_written_over(model, capsys):
    table = pd.DataFrame({"user": ["a"], "item": ["i1"], "time": [5]})
    file = histories_file("csv", table)
    before = file.read_text()
    assert recommend(model, f"--histories={file}", f"--out={file}") == 2
    assert file.read_text() == before


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    assert main(["recommend", "x" * 300, "--all_users", "--out=recs.csv"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be used (File name too long)" in error
