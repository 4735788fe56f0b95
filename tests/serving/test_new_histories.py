"""What the data set's users did since the training stands in their histories."""

from pathlib import Path

import pandas as pd
import pytest
from served import events, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.serving.events_of_users import EventsOfUsers, read_events
from recbole_hstu.support.errors import InputError

LATE = 1_601_000_000_000  # the toy events lie before
AT = LATE + 10**6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints: HSTU that counts, HSTU and BPR that do not; and the data set's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("models"))
        toy_with_text()
        made = {
            "counts": trained("HSTU", recent_days=[2, 5]),
            "HSTU": trained("HSTU", checkpoint_dir="others"),
            "BPR": trained("BPR"),
        }
        found = {name: result["checkpoint"].resolve() for name, result in made.items()}
        return {**found, "data": Path("dataset/toy").resolve()}


def loaded(files, name):
    return Recommender.load(files[name], dataset=files["data"])


def bought(*users, first=LATE):
    """Two items that each of these users and nobody else has just bought."""
    table = events()
    rows = []
    for number, user in enumerate(users):
        had = set(table.loc[table["user"] == user, "item"])
        new = [f"i{n}" for n in range(30) if f"i{n}" not in had][:2]
        rows += [(user, item, first + 10 * number + place) for place, item in enumerate(new)]
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def command(files, name, *options, out="recs.csv"):
    fixed = [f"--dataset={files['data']}", f"--at={AT}", "--show_progress=False", f"--out={out}"]
    return main(["recommend", str(files[name]), *fixed, *options])


@pytest.mark.parametrize("name", ["counts", "HSTU"])
def test_a_new_event_is_read_and_not_recommended_again(files, name):
    new, rec, other = bought("u3", "stranger"), loaded(files, name), loaded(files, name)
    asked = ["u3", "u4", "stranger"]
    rec.add_events(new)
    found = rec.recommend_users(asked, k=5, at=AT)
    if name == "counts":
        other.add_events([list(zip(new["item"], new["time"], strict=True))])
    own = pd.concat([events(), new])
    whole = pd.concat([own[own["user"] == user] for user in asked])
    pd.testing.assert_frame_equal(found, other.recommend(whole, k=5, at=AT), check_dtype=False)
    for user in ("u3", "stranger"):
        had = set(whole.loc[whole["user"] == user, "item"])
        assert not had & set(found.loc[found["user"] == user, "item"])


def test_events_stand_where_their_times_are_and_as_often_as_they_are_added(files):
    rec = loaded(files, "HSTU")
    own = events().query("user == 'u3'")
    between = pd.DataFrame({"user": ["u3"], "item": ["i1"], "time": [own["time"].iloc[0]]})
    for _ in range(2):
        rec.add_events(between)
    found = rec.events_of_users().of(["u3"])
    first, *rest = own["item"]
    assert found["item"].tolist() == [first, "i1", "i1", *rest]


def test_unknown_items_of_new_events_do_not_come_back(files):
    rec = loaded(files, "HSTU")
    new = pd.concat([bought("u3"), pd.DataFrame({"user": ["u3"], "item": ["gone"], "time": [AT]})])
    with pytest.raises(InputError, match="does not know: gone"):
        rec.add_events(new)
    assert rec.new_events is None
    rec.add_events(new, on_unknown="ignore")
    assert rec.recommend_users(["u3"], k=3, at=AT)["user"].tolist() == ["u3"] * 3


@pytest.mark.parametrize("name", ["counts", "HSTU"])
def test_the_command_reads_them_from_a_file(files, name):
    new = bought("u3", "stranger")
    new.to_csv("since.csv", index=False)
    Path("users.txt").write_text("stranger\nu3\n")
    assert command(files, name, "--users=users.txt", "--new_events=since.csv") == 0
    assert command(files, name, "--all_users", "--new_events=since.csv", out="all.csv") == 0
    rec = loaded(files, name)
    rec.add_events(new)
    expected = rec.recommend_users(["stranger", "u3"], at=AT)
    pd.testing.assert_frame_equal(pd.read_csv("recs.csv"), expected, check_dtype=False, atol=1e-6)
    everybody = pd.read_csv("all.csv").groupby("user")
    assert len(everybody) == 41
    for user, part in expected.groupby("user"):
        assert everybody.get_group(user)["item"].tolist() == part["item"].tolist()


def test_a_model_of_names_leaves_them_out_of_its_lists(files, caplog):
    new = bought("u3", "stranger")
    new.to_csv("since.csv", index=False)
    assert command(files, "BPR", "--all_users", "--new_events=since.csv") == 0
    assert "1 users get no list: BPR knows its users by name" in caplog.text
    found = pd.read_csv("recs.csv")
    assert set(found["user"]) == {f"u{n}" for n in range(40)}
    rec = loaded(files, "BPR")
    before = rec.recommend_users(["u3"], k=18)["item"]
    own = set(new.query("user == 'u3'")["item"])
    expected = [item for item in before if item not in own][:10]
    assert found.query("user == 'u3'")["item"].tolist() == expected


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("HSTU", ["--histories=since.csv"], "HSTU counts no events, and --histories has all of"),
        ("BPR", ["--all_users", "--exclude_seen=False"], "so that nothing reads these events"),
    ],
)
def test_events_that_nothing_would_read_are_refused(files, name, options, words, capsys):
    bought("u3").to_csv("since.csv", index=False)
    assert command(files, name, *options, "--new_events=since.csv") == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), words in error) == (1, True)
    assert not Path("recs.csv").exists()


def test_nobody_counts_events_without_names_where_the_model_does_not(files):
    with pytest.raises(InputError, match=r"HSTU counts no events .*; give a table user, item"):
        loaded(files, "HSTU").add_events([[("i1", AT)]])


def test_times_that_do_not_fit_those_of_the_data_set(files):
    rec = loaded(files, "HSTU")
    rec.saved.state["times"] = None  # an older checkpoint
    rec.add_events(bought("u3", first=LATE // 1000))
    with pytest.raises(InputError, match="new events: time 1601000001 is in seconds, and"):
        rec.recommend_users(["u3"], at=AT)
    with pytest.raises(InputError, match="is in milliseconds, and the times of those added before"):
        rec.add_events(bought("u3"))
    rec = loaded(files, "BPR")
    rec.add_events(bought("u3").drop(columns="time"))
    with pytest.raises(InputError, match="they have no times, unlike the data set's events; load"):
        rec.recommend_users(["u3"])
    assert len(rec.recommend_users(["u3"], events().drop(columns="time"), k=3)) == 3
    with pytest.raises(InputError, match="they have times, unlike those added before"):
        rec.add_events(bought("u3"))


def test_a_table_of_events_is_read_as_a_file_is(files, caplog):
    """Its tokens may be numbers, rows without a user or an item are left out, times are whole."""
    items = pd.Series([5, 6, None, 7], dtype=object)
    table = pd.DataFrame({"user": ["a", None, "a", "a"], "item": items, "time": [3, 1, 2, 1]})
    read = read_events({}, table)
    assert read["item"].tolist() == ["7", "5"]
    assert "dataset: 2 events without a user or an item are left out" in caplog.text
    again = pd.DataFrame({"user": ["a"], "item": ["5"], "time": [9]})
    assert EventsOfUsers(read, again, "last").of(["a"])["item"].tolist() == ["7", "5"]
    table["time"] = pd.Series([3, 1, 2, "soon"], dtype=object)
    with pytest.raises(InputError, match="dataset: time 'soon' is not a whole number"):
        read_events({}, table)


@pytest.mark.parametrize(("kept", "times"), [(None, [1, 5]), ("first", [1]), ("last", [5])])
def test_repeats_that_the_training_left_out(kept, times):
    bought = pd.DataFrame({"user": ["a"], "item": ["i1"], "time": [1]})
    joined = EventsOfUsers(bought, bought.assign(time=5), kept)
    assert joined.of(["a"])["time"].tolist() == times
