"""Searches without plots."""

import pytest

from recbole_hstu.tuning import tune as tuning


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """They take longer than the small searches here; one test draws them."""
    monkeypatch.setattr(tuning, "plot", lambda search: None)
