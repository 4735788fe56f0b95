"""CSV by columns against Python's csv module and str.split, wherever a file is cut into blocks."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataset_converters.reading import csv_chunks
from dataset_converters.reading.chunks import records_of
from dataset_converters.reading.tables import first_line

HEADER = ["user", "note", "item"]
fields = st.text('ab1 ,;"\n\r\u00e9\u2028\0', max_size=4) | st.sampled_from(["x", '"', "", "\r\n"])
tables = st.lists(st.lists(fields, min_size=3, max_size=3), max_size=8)
stray = st.sampled_from(['"a,b,c\n', 'a,"b,c\n', 'a,b,"c\r\n', 'a,b",c\n', '"",b,c\n', "a,b,c\n"])
loose = st.lists(st.sampled_from(["a", ",", '"', "\n", "\r\n", "\r", " ", "\n\n", "\u00e9"]))


@st.composite
def well_formed(draw):
    """Records as a program writes them, with blank lines between them."""
    file = io.StringIO(newline="")
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(file, lineterminator=ends, quoting=quoting)
    for row in draw(tables):
        writer.writerow(row)
        file.write(ends * draw(st.integers(0, 1)))
    text = file.getvalue()
    return text.removesuffix(ends) if draw(st.booleans()) else text


bodies = st.one_of(
    well_formed().map(str.encode),
    st.lists(well_formed() | loose.map("".join)).map("".join).map(str.encode),
    st.lists(well_formed() | stray).map("".join).map(str.encode),
    st.lists(st.sampled_from([b"a,b,c\n", b"a,\xff,c\n", b'"\xff\n",b,c\n', b"\n"])).map(b"".join),
)


def by_python(body: bytes, quotes: bool, most: int = 10_000) -> list:
    """Line and record, or None for what is none, of every record of the file's body.

    A record takes `most` lines; what cannot be taken apart ends with its first one.
    """
    lines = body.decode("utf-8", "replace").split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    if not quotes:
        rows = [(n, line.rstrip("\r\n").split(",")) for n, line in enumerate(lines, 2)]
        return [judged(n, row) for n, row in rows if not lines[n - 2].isspace()]
    found, start = [], 0
    while start < len(lines):
        reader = csv.reader(lines[start : start + most], strict=True)
        try:
            row, taken = next(reader), reader.line_num
        except csv.Error:
            row, taken = [""], 1
        if row:
            found.append(judged(start + 2, row))
        start += taken
    return found


def judged(line: int, row: list[str]):
    broken = len(row) != len(HEADER) or any("\ufffd" in text for text in row)
    return line, None if broken else dict(zip(HEADER, row, strict=True))


@pytest.mark.parametrize("quotes", [True, False])
@given(bodies, st.sets(st.integers(0, 40)), st.integers(0, 40), st.booleans(), st.integers(1, 9))
@example(b'a,b,c\r\n"x\r\ny",,z\r\n', set(), 0, True, 9)
@example(b'a,"b\n\n",c\n\na,b,c', {0, 1}, 0, True, 9)
@example(b'a,b,c\na,"b\n\n",c', set(), 0, False, 2)
def test_records_as_python_reads_them(quotes, body, cuts, small, mark, most):
    head = b"\xef\xbb\xbf" * mark + ",".join(HEADER).encode() + b"\n"
    pieces = io.BytesIO(head + body).readlines()
    ends = sorted(cut for cut in cuts if cut < len(pieces))
    blocks = [b"".join(pieces[i:j]) for i, j in zip([0, *ends], [*ends, None], strict=True)]
    line, rest = first_line(block for block in blocks if block)
    layout = csv_chunks.Layout(",", line.split(","), HEADER, quotes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_chunks, "_SMALL", small)
        patch.setattr(csv_chunks, "_MOST_LINES", most)
        read = list(records_of(csv_chunks.csv_chunks(rest, layout)))
    found = [(line, None if isinstance(record, str) else record) for line, record in read]
    assert found == by_python(body, quotes, most)


def test_a_quote_that_nothing_closes_takes_a_bounded_part_of_the_file():
    """What lies far behind it is not read, and not kept, before the first records are given."""
    taken = []

    def blocks():
        for number in range(100):
            taken.append(number)
            yield b'"a,b,c\n' if number == 0 else b"a,b,c\n" * 1_000

    chunks = csv_chunks.csv_chunks(blocks(), csv_chunks.Layout(",", HEADER, HEADER))
    chunk = next(chunks)
    assert len(taken) == 11
    assert chunk.problems == {0: "not CSV (no quote closes within 10,000 lines)"}
    assert len(chunk) + sum(map(len, chunks)) == 99_001
