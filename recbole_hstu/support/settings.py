"""What the house reads of a configuration."""

from __future__ import annotations

from typing import Any, Protocol


class Settings(Protocol):
    """Values by name; one that is not set is None."""

    def __getitem__(self, key: str, /) -> Any: ...


class PlainSettings(Settings, Protocol):
    """Settings that can be kept in a file."""

    def plain(self) -> dict[str, Any]:
        """All of them as plain values: they survive YAML, JSON and a checkpoint."""
