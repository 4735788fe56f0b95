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
    st.lists(st.sampled_from([b"a,b,c\n", b"a,\xff,c\n", b'"\xff\n",b,c\n', b"\n"])).map(b"".join),
)


def by_python(body: bytes, quotes: bool) -> list:
    """Line and record, or None for what is none, of every record of the file's body."""
    lines = body.decode("utf-8", "replace").split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    if not quotes:
        rows = [(n, line.rstrip("\r\n").split(",")) for n, line in enumerate(lines, 2)]
        return [judged(n, row) for n, row in rows if not lines[n - 2].isspace()]
    reader = csv.reader(lines, strict=True)
    found = []
    while True:
        line = reader.line_num + 2
        try:
            row = next(reader)
        except StopIteration:
            return found
        except csv.Error:
            row = [""]
        if row:
            found.append(judged(line, row))


def judged(line: int, row: list[str]):
    broken = len(row) != len(HEADER) or any("\ufffd" in text for text in row)
    return line, None if broken else dict(zip(HEADER, row, strict=True))


@pytest.mark.parametrize("quotes", [True, False])
@given(bodies, st.sets(st.integers(0, 40)), st.integers(0, 40), st.booleans())
@example(b'a,b,c\r\n"x\r\ny",,z\r\n', set(), 0, True)
@example(b'a,"b\n\n",c\n\na,b,c', {0, 1}, 0, True)
def test_records_as_python_reads_them(quotes, body, cuts, small, mark):
    head = b"\xef\xbb\xbf" * mark + ",".join(HEADER).encode() + b"\n"
    pieces = io.BytesIO(head + body).readlines()
    ends = sorted(cut for cut in cuts if cut < len(pieces))
    blocks = [b"".join(pieces[i:j]) for i, j in zip([0, *ends], [*ends, None], strict=True)]
    line, rest = first_line(block for block in blocks if block)
    layout = csv_chunks.Layout(",", line.split(","), HEADER, quotes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_chunks, "_SMALL", small)
        read = list(records_of(csv_chunks.csv_chunks(rest, layout)))
    found = [(line, None if isinstance(record, str) else record) for line, record in read]
    assert found == by_python(body, quotes)
