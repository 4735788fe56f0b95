"""Addresses lose their secrets, and nothing else."""

import logging

import pytest

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.secrets import MaskSecrets, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:S@host/v1", "https://***@host/v1"),
        ("https://TOKEN@host:8080/v1/", "https://***@host:8080/v1/"),
        ("https://host/?api-key=S&b=S;c=S", "https://host/?api-key=***&b=***;c=***"),
        ("https://host?S", "https://host?***"),
        ("https://host/#access_token=S", "https://host/#access_token=***"),
        ("https://host/a?k=S#part", "https://host/a?k=***#part"),
        ("https://me:S@S@host/", "https://***@host/"),
        ("https://me:S/S?S#S@host/", "https://***@host/"),
        ("HTTPS://me:S@[::1]:80/", "HTTPS://***@[::1]:80/"),
        ("https://host/?k=S and S 'S'", "https://host/?k=***"),
        (
            "postgresql+psycopg://me:S@host/db?password=S",
            "postgresql+psycopg://me:***@host/db?password=***",
        ),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("https://host:8080/@scope/name", "https://host:8080/@scope/name"),
        ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
        ("https:/me:S@host/?k=S", "https:/***@host/?k=***"),
        ("C:/me:x/a@b?c", "C:/me:x/a@b?c"),
        ("see https://me:S@host/?k=S: refused", "see https://***@host/?k=*** refused"),
        ("('https://me:S@host', 1)", "('https://***@host', 1)"),
        ("2024-01-01 12:30 a@b.c ?x=1", "2024-01-01 12:30 a@b.c ?x=1"),
        ("", ""),
    ],
)
def test_texts(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown
    assert "S" not in masked(text).removeprefix("HTTPS")


def test_values_of_every_kind():
    value = {"a": ["https://x@h", ("https://h?k=v",)], "b": 1, "c": None, "d": {"https://x@h"}}
    shown = {
        "a": ["https://***@h", ("https://h?k=***",)],
        "b": 1,
        "c": None,
        "d": {"https://***@h"},
    }
    assert masked(value) == shown
    assert value["a"][0] == "https://x@h"


def test_errors_are_masked():
    assert str(InputError("https://me:S@host/: no")) == "https://***@host/: no"


def test_what_other_libraries_log_is_masked(caplog):
    caplog.handler.addFilter(MaskSecrets())
    logger = logging.getLogger("elsewhere")
    logger.warning("POST %s %d", "https://me:S@host/?k=S", 200)
    try:
        raise ValueError("https://me:S@host")
    except ValueError:
        logger.exception("failed")
    assert "https://***@host/?k=*** 200" in caplog.text
    assert "ValueError: https://***@host" in caplog.text
    assert "me:S" not in caplog.text


def test_a_message_that_does_not_fit_is_loggings_to_report():
    record = logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None)
    assert MaskSecrets().filter(record)
    assert record.args == ("no number",)
