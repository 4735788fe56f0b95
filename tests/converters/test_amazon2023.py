"""Amazon Reviews 2023, from real lines."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest
from converted_files import stats_of

from dataset_converters.atomic import file_names

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"


@pytest.fixture
def raw(data, tmp_path):
    """A folder of one's own with the few real lines."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("Electronics_few.csv", "meta_Electronics_few.jsonl.gz"):
        shutil.copy(data / name, folder)
    return folder


def amazon(convert, raw, *more, **kinds):
    return convert("amazon2023", "--category", "Electronics_few", "--raw", raw, *more, **kinds)


def inter_lines(folder):
    return (folder / f"{folder.name}.inter").read_text("utf-8").splitlines()


def test_every_row_arrives_with_its_milliseconds(convert, raw):
    folder = amazon(convert, raw)
    source = (raw / "Electronics_few.csv").read_text().splitlines()[1:]
    # One user's rows stand together in the source, in the order of time already.
    assert sorted(inter_lines(folder)[1:]) == sorted(line.replace(",", "\t") for line in source)
    assert inter_lines(folder)[0] == HEADER
    assert {p.name for p in folder.iterdir()} == set(file_names("Electronics_few"))
    stats = stats_of(folder)
    assert (stats["users"], stats["items"], stats["interactions"]) == (4, 22, 26)
    assert (stats["ties"], stats["repeated_pairs"]) == (3, 4)
    assert stats["metadata"]["not_needed"] == 2


def test_item_texts_are_clean_and_in_their_columns(convert, raw):
    folder = amazon(convert, raw)
    header, *rows = (folder / "Electronics_few.item").read_text("utf-8").splitlines()
    assert header.split("\t") == ["item_id:token"] + [
        f"{name}:token_seq" for name in ("title", "features", "categories", "description", "store")
    ]
    assert len(rows) == 22
    title = {row.split("\t")[0]: row.split("\t")[1] for row in rows}["B07HZLHPKP"]
    assert title == (  # the source has an en dash after "Alexa"
        "Echo Show 5 (1st Gen, 2019 release) -- Smart display with Alexa stay connected with video "
        "calling - Charcoal"
    )
    assert all(row.isascii() and "  " not in row for row in rows)
    assert any('"" ' in row or '"""' in row for row in rows)


@pytest.mark.parametrize(("keep", "rating"), [("first", "1.0"), ("last", "5.0")])
def test_repeated_pairs_can_be_dropped(convert, raw, keep, rating):
    folder = amazon(convert, raw, "--duplicates", keep)
    assert stats_of(folder)["dropped"] == {"repeated (user, item) pair": 4}
    twice = [line for line in inter_lines(folder) if "B09DVHKL3C" in line]
    assert [line.split("\t")[2] for line in twice] == [rating]


def test_items_without_metadata(convert, raw, tmp_path):
    packed = raw / "meta_Electronics_few.jsonl.gz"
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").splitlines(keepends=True)
    gone = json.loads(lines.pop(0))["parent_asin"]
    packed.write_bytes(gzip.compress("".join(lines).encode("utf-8")))
    dropping = amazon(convert, raw)
    assert stats_of(dropping)["dropped"] == {"item without metadata": 1}
    assert not any(gone in line for line in inter_lines(dropping))
    keeping = amazon(convert, raw, "--keep_unknown_items", "--name", "all")
    assert stats_of(keeping)["interactions"] == 26
    assert stats_of(keeping)["metadata"]["without_metadata"] == 1
    assert f"{gone}\t\t\t\t\t" in (keeping / "all.item").read_text("utf-8").splitlines()


def test_k_core_and_limit(convert, raw):
    assert "no interaction is left" in amazon(convert, raw, "--k_core", "5")
    assert stats_of(amazon(convert, raw, "--limit", "10"))["interactions"] == 10


def test_malformed_lines_are_counted_and_too_many_stop_the_run(convert, raw, caplog):
    source = raw / "Electronics_few.csv"
    lines = source.read_text().splitlines()
    lines[3:3] = ["only,three,1.0", "u,i,5.0,12x", "u,i,5.0,1_000", ""]
    source.write_bytes("\n".join(lines).encode() + b"\n\xff,i,5.0,1\n")
    error = amazon(convert, raw)
    assert error.startswith("error: ")
    assert "4 of 30 lines read are malformed, more than the allowed 1.00%" in error
    assert not list((raw.parent / "dataset").glob("[!.]*"))
    folder = amazon(convert, raw, "--max_malformed", "0.2")
    assert stats_of(folder)["files"][0]["malformed"] == 4
    assert stats_of(folder)["interactions"] == 26
    for number in (4, 5, 6, 32):
        assert f"line {number} left out" in caplog.text


def test_a_damaged_or_missing_file_is_one_line(convert, raw):
    packed = raw / "meta_Electronics_few.jsonl.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-100])
    assert "damaged or cut short" in amazon(convert, raw)
    packed.unlink()
    assert "neither meta_Electronics_few.jsonl nor" in amazon(convert, raw)
    (raw / "meta_Electronics_few.jsonl").write_bytes(gzip.decompress(whole))  # plain will do
    assert stats_of(amazon(convert, raw))["interactions"] == 26
    (raw / "Electronics_few.csv").write_text("a,b\n")
    assert "is not the header user_id,parent_asin,rating,timestamp" in amazon(convert, raw)


def test_a_failure_leaves_the_old_data_set_as_it_was(convert, raw):
    folder = amazon(convert, raw)
    (folder / "Electronics_few.blair.safetensors").write_bytes(b"vectors")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (raw / "meta_Electronics_few.jsonl.gz").write_bytes(b"no gzip")
    assert "damaged" in amazon(convert, raw)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_other_files_of_the_folder_survive_a_new_conversion(convert, raw):
    folder = amazon(convert, raw)
    (folder / "Electronics_few.blair.safetensors").write_bytes(b"vectors")
    (folder / "cache").mkdir()
    (folder / "cache" / "x").write_text("1")
    folder = amazon(convert, raw, "--limit", "3")
    assert (folder / "Electronics_few.blair.safetensors").read_bytes() == b"vectors"
    assert (folder / "cache" / "x").read_text() == "1"
    assert len(inter_lines(folder)) == 4
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_unknown_names_say_what_is_known(convert):
    error = convert("amazon2023", "--category", "Nonesuch")
    assert "Musical_Instruments" in error
    assert "--raw" in error
    assert "no such folder" in convert("amazon2023", "--category", "x", "--raw", "/nowhere")
    assert "cannot be the name" in convert("steam", "--name", "../steam")
    assert "--k_core" in convert("steam", "--k_core", "-1")


@pytest.mark.realdata
def test_the_real_slice_has_its_stated_counts_and_the_same_bytes_twice(convert, real, tmp_path):
    source = gzip.decompress((real / "amazon2023/Electronics_sample.csv.gz").read_bytes())
    made = []
    for out in ("one", "two"):
        folder = convert(
            *("amazon2023", "--category", "Electronics_sample", "--raw", real / "amazon2023"),
            out=tmp_path / out,
        )
        made.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert made[0] == made[1]
    stats = stats_of(folder)
    assert (stats["users"], stats["items"], stats["interactions"]) == (15_266, 9_671, 131_154)
    wanted = sorted(source.decode().replace(",", "\t").splitlines()[1:])
    assert sorted(made[0]["Electronics_sample.inter"].decode().splitlines()[1:]) == wanted
