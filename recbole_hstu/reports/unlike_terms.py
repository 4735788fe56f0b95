"""What sets the rows of a table apart and stands in none of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_hstu.records.run_record import OK, RunRecord


def unlike_terms(rows: Mapping[str, Sequence[RunRecord]]) -> tuple[str, ...]:
    """A sentence for each thing that some rows have and others have not.

    Args:
        rows: the runs of each label, which is shown as it stands.
    """
    finished = {label: [run for run in runs if run.status == OK] for label, runs in rows.items()}
    of_rows = {label: runs[0] for label, runs in finished.items() if runs}
    trained = {label: run for label, run in of_rows.items() if run.epochs}
    told = [
        _who("Learn from the last events of a user alone (windows: last)", trained, _learns_last),
        _who("Read the time of the request", of_rows, _reads_request_time),
        _who("Judged on items of a knowledge graph alone", of_rows, _has_graph),
    ]
    runs = [run for label in trained for run in finished[label]]
    told += [
        _values(what, [value(run) for run in runs])
        for what, value in (
            ("device", lambda run: run.device),
            ("train_seconds", lambda run: run.config.get("train_seconds")),
            ("release of recbole_hstu", lambda run: run.versions.get("recbole_hstu")),
        )
    ]
    return tuple(filter(None, told))


def _who(what: str, rows: Mapping[str, RunRecord], does: Callable[[RunRecord], bool]) -> str:
    those = [label for label, run in rows.items() if does(run)]
    if not those or len(those) == len(rows):
        return ""
    return f"{what}: {', '.join(those)}."


def _learns_last(run: RunRecord) -> bool:
    if run.train_view != "user" or run.config.get("windows") != "last":
        return False
    events = run.config.get("train_events")  # of which there may be no more than it learns from
    return events is None or events > run.config["MAX_ITEM_LIST_LENGTH"] + 1


def _reads_request_time(run: RunRecord) -> bool:
    return run.config.get("query_time") == "target" or run.config.get("recent_days") is not None


def _has_graph(run: RunRecord) -> bool:
    return run.config.get("MODEL_TYPE") == "KNOWLEDGE"  # RecBole's name of the kind


def _values(what: str, found: Sequence[Any]) -> str:
    values = list(dict.fromkeys(value for value in found if value != ""))
    return f"Not alike: {what} ({', '.join(map(str, values))})." if len(values) > 1 else ""
