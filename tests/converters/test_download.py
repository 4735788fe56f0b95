"""Downloads from a real local server that cuts, lies and refuses."""

from __future__ import annotations

import gzip
import hashlib
import random
import socket

import pytest

from dataset_converters.downloads import download as module
from dataset_converters.downloads.download import Remote, download, remote_size
from dataset_converters.errors import ConversionError

PLAIN = random.Random(7).randbytes(300_000)
BODY = gzip.compress(PLAIN, mtime=0)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.001)


def only_the_file(target):
    left = {p.name for p in target.parent.iterdir() if not p.name.endswith(".lock")}
    return left == {target.name}


def test_a_file_comes_whole(server, tmp_path):
    url, manners = server
    manners.body = BODY
    target = tmp_path / "cache" / "file.jsonl.gz"
    assert download(Remote([url]), target).read_bytes() == BODY
    assert only_the_file(target)
    assert remote_size(Remote([url])) == len(BODY)


def test_a_cut_connection_is_resumed_by_range(server, tmp_path):
    url, manners = server
    manners.body, manners.cut_after = BODY, [100_000, 50_000, 1]
    target = tmp_path / "file.jsonl.gz"
    assert download(Remote([url]), target).read_bytes() == BODY
    asked = [r for _, r in manners.requests]
    assert asked[0] is None
    assert asked[1:] == ["bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_a_later_run_goes_on_where_the_last_one_gave_up(server, tmp_path):
    url, manners = server
    manners.body, manners.cut_after = BODY, [123_456] + [0] * module.ATTEMPTS
    target = tmp_path / "file.jsonl.gz"
    with pytest.raises(ConversionError, match="run again to go on from byte 123,456"):
        download(Remote([url]), target)
    assert not target.exists()
    manners.requests.clear()
    assert download(Remote([url]), target).read_bytes() == BODY
    assert manners.requests == [("GET", "bytes=123456-")]


def test_no_secret_of_an_address_is_shown_or_kept(server, tmp_path, caplog):
    url, manners = server
    manners.body, manners.cut_after = BODY, [123_456] + [0] * module.ATTEMPTS
    secret = url.replace("http://", "http://me:S3CRET@") + "?key=S3CRET"
    with pytest.raises(ConversionError, match="run again to go on") as caught:
        download(Remote([secret]), tmp_path / "file.jsonl.gz")
    kept = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(kept) >= 2
    assert not [path for path in kept if b"S3CRET" in path.read_bytes()]
    assert "S3CRET" not in str(caught.value)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("dataset_converters")]
    assert ours
    assert "S3CRET" not in "".join(ours)


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    url, manners = server
    manners.body, manners.cut_after, manners.ranges = BODY, [100_000], False
    target = tmp_path / "file.jsonl.gz"
    assert download(Remote([url]), target).read_bytes() == BODY


def test_a_file_that_changed_meanwhile_starts_anew(server, tmp_path):
    url, manners = server
    manners.body, manners.cut_after = b"\0" * len(BODY), [100_000] + [0] * module.ATTEMPTS
    target = tmp_path / "file.jsonl.gz"
    with pytest.raises(ConversionError):
        download(Remote([url]), target)
    manners.body, manners.etag, manners.cut_after = BODY, '"two"', []
    assert download(Remote([url]), target).read_bytes() == BODY


def test_another_range_than_asked_for_is_not_glued_on(server, tmp_path):
    url, manners = server
    manners.body, manners.cut_after, manners.wrong_range = BODY, [100_000], True
    target = tmp_path / "file.jsonl.gz"
    assert download(Remote([url]), target).read_bytes() == BODY


def test_a_length_too_long_is_never_a_whole_file(server, tmp_path):
    url, manners = server
    manners.body, manners.length = BODY, len(BODY) + 1000
    target = tmp_path / "file.jsonl.gz"
    with pytest.raises(ConversionError, match="gave up after"):
        download(Remote([url]), target)
    assert not target.exists()


def test_a_length_too_short_is_seen_by_the_gzip_structure(server, tmp_path):
    url, manners = server
    manners.body, manners.length = BODY, len(BODY) - 1000
    target = tmp_path / "file.jsonl.gz"
    with pytest.raises(ConversionError, match="not the whole file"):
        download(Remote([url]), target)
    assert not target.exists()
    assert not (tmp_path / "file.jsonl.gz.part").exists()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_one_line_with_advice(server, tmp_path, status):
    url, manners = server
    manners.statuses = [status]
    with pytest.raises(ConversionError, match=rf"answers {status} .*--sources.*--raw") as caught:
        download(Remote([url]), tmp_path / "file.jsonl.gz")
    assert "\n" not in str(caught.value)
    assert len(manners.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    url, manners = server
    manners.body, manners.statuses = BODY, [503, 429, 500]
    assert download(Remote([url]), tmp_path / "file.jsonl.gz").read_bytes() == BODY
    assert len(manners.requests) == 4


def test_the_next_address_is_tried(server, tmp_path):
    url, manners = server
    manners.body, manners.statuses = BODY, [404]
    remote = Remote([url + "?gone", url], len(BODY), hashlib.sha256(BODY).hexdigest())
    assert download(remote, tmp_path / "file.jsonl.gz").read_bytes() == BODY


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"size": 5}])
def test_a_known_size_and_checksum_are_verified(server, tmp_path, known):
    url, manners = server
    manners.body = BODY
    with pytest.raises(ConversionError, match="not the whole file"):
        download(Remote([url], **known), tmp_path / "file.jsonl.gz")
    assert not (tmp_path / "file.jsonl.gz").exists()


def test_nobody_listening_is_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.gz"
        with pytest.raises(ConversionError, match="gave up after"):
            download(Remote([url]), tmp_path / "file.gz")
        assert remote_size(Remote([url])) is None


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(ConversionError, match=r"cache: cannot be written \(File exists\)"):
        download(Remote([]), tmp_path / "cache" / "file.gz")


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    url, manners = server
    manners.body = BODY
    monkeypatch.setenv("http_proxy", url.rsplit("/", 1)[0])
    target = tmp_path / "file.gz"
    # No such host: only a proxy can answer for it.
    assert download(Remote(["http://example.invalid/file.gz"]), target).read_bytes() == BODY
