"""A made-up study with all that can happen to it, for the tests of tables, plots and pages."""

from __future__ import annotations

import numpy as np

from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.evaluation.segments import (
    ITEM_SEGMENTS,
    USER_SEGMENTS,
    item_segments,
    metrics_by_segment,
    popularity_bounds,
    user_segments,
)
from recbole_hstu.records.rank_file import SUFFIX, RankFile, write_rank_file
from recbole_hstu.records.run_record import FAILED, Epoch, RunRecord, record_name, write_record

METRICS = ("hit@10", "ndcg@10", "mrr")
LEVELS = {"SASRec": 60, "GRU4Rec": 75, "SASRecSS": 45, "HSTU": 36, "HSTUText (lsa)": 30}


def finished_run(label, seed, dataset, users, level):
    rng = np.random.default_rng([seed, level])
    taste = np.random.default_rng(0).exponential(1, users)
    ranks = 1 + np.minimum(rng.exponential(level, users) * taste, 900).astype(np.int64)
    history = np.random.default_rng(1).geometric(0.15, users).astype(np.int64) + 3
    counts = np.random.default_rng(2).geometric(0.02, users).astype(np.int64) - 1
    file = RankFile(np.array([f"u{i}" for i in range(users)]), ranks, ranks * 0, history, counts)
    segments = {
        "users": metrics_by_segment(ranks, user_segments(history, 5, 13), USER_SEGMENTS, METRICS),
        "items": metrics_by_segment(
            ranks,
            item_segments(counts, popularity_bounds(counts, 0.5, 0.8)),
            ITEM_SEGMENTS,
            METRICS,
        ),
    }
    epochs = 12 + seed * 2
    best = mean_metrics(ranks, METRICS)["ndcg@10"]
    curve = [1 - np.exp(-(e + 1) / 4) for e in range(epochs)]
    history_of = tuple(
        Epoch(
            e + 1,
            (e + 1) * level / 2,
            (200 if label == "SASRec" else 4) * (1.6 - c) + 0.1,
            {"ndcg@10": best * c} if e % 2 else {},
        )
        for e, c in enumerate(curve)
    )
    record = RunRecord(
        model=label.split(" ")[0],
        label=label,
        dataset=dataset,
        seed=seed,
        protocol="recbole",
        config={"learning_rate": 1e-3, "note": "<b>5 & 6</b>"},
        metrics=mean_metrics(ranks, METRICS),
        history=history_of,
        training_seconds=epochs * level / 2,
        epochs=epochs,
        parameters=20_000 * (1 + len(label)),
        device="cpu",
        versions={"torch": "2.4.0"},
        converged=not (label == "GRU4Rec" and seed == 2),
        segments=segments,
        rank_file="",
    )
    return record, file


def failed_run(label, seed, dataset, error):
    return RunRecord(
        model=label, dataset=dataset, seed=seed, protocol="recbole", status=FAILED, error=error
    )


def write_study(folder, dataset="toys & <games>", seeds=(1, 2, 3), users=600):
    """Five models; a seed of SASRec and all of BERT4Rec fail. Returns the records."""
    records = []
    for label, level in LEVELS.items():
        for seed in seeds:
            record, file = finished_run(label, seed, dataset, users, level)
            name = record_name(record) + SUFFIX
            record = RunRecord(**(record.__dict__ | {"rank_file": name}))
            write_rank_file(folder / name, file)
            records.append(record)
    records.append(failed_run("SASRec", 9, dataset, "CUDA out of memory"))
    records.append(failed_run("BERT4Rec", 1, dataset, "bad | value_1\n in *mask_ratio* <0 & 50%"))
    for record in records:
        write_record(folder, record)
    return records
