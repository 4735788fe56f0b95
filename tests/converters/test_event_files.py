"""The interactions as Parquet, in row groups that know their own ids alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_converters import event_files
from dataset_converters.event_files import write_interactions, write_parquet
from dataset_converters.interactions import Interactions

TYPES = [pa.dictionary(pa.int32(), pa.string())] * 2 + [pa.float64(), pa.int64()]


def test_a_row_group_holds_the_ids_of_its_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "_ROWS", 3)
    ids = pa.array(["a", "b", "unused", "ä", "d"], pa.large_string())
    user, item = [1, 1, 0, 0, 3, 3, 4], [4, 1, 4, 1, 0, 0, 3]
    rating, time = [1.0, -0.0, 2.5, 1, 1, 1, 5], [2**62, -5, 0, 1, 1, 2, 2**60 + 1]
    codes = (np.array(column, np.int32) for column in (user, item))
    write_parquet(
        tmp_path / "x.parquet", Interactions(ids, ids, *codes, np.array(rating), np.array(time))
    )
    file, names = pq.ParquetFile(tmp_path / "x.parquet"), ids.to_pylist()
    assert file.schema_arrow.types == TYPES
    for group, rows in enumerate((slice(0, 3), slice(3, 6), slice(6, 7))):
        for column, codes in zip(file.read_row_group(group).columns, (user, item), strict=False):
            own = [names[code] for code in dict.fromkeys(codes[rows])]
            assert column.chunk(0).dictionary.to_pylist() == own
    read = pq.read_table(tmp_path / "x.parquet").to_pydict()
    expected = [[names[code] for code in codes] for codes in (user, item)]
    assert list(read.values()) == [*expected, rating, time]


def test_it_is_the_smaller_file_however_many_users_there_are(tmp_path, monkeypatch):
    """With the dictionary of all ids in every row group it is three times the size."""
    monkeypatch.setattr(event_files, "_ROWS", 1 << 10)
    rng = np.random.default_rng(0)
    users = pa.array([f"{user:028x}" for user in sorted(rng.integers(0, 2**60, 8000).tolist())])
    rows = np.sort(rng.integers(0, 8000, 20000)).astype(np.int32)
    time = rng.integers(1_500_000_000, 1_700_000_000, 20000)
    items = pa.array([f"B{item:09}" for item in range(2000)])
    item = rng.integers(0, 2000, 20000).astype(np.int32)
    data = Interactions(
        users.cast(pa.large_string()),
        items.cast(pa.large_string()),
        rows,
        item,
        np.ones(20000),
        time,
    )
    write_parquet(tmp_path / "x.parquet", data)
    write_interactions(tmp_path / "x.inter", data)
    parquet, inter = ((tmp_path / name).stat().st_size for name in ("x.parquet", "x.inter"))
    assert parquet < 0.5 * inter
