"""Does one model beat another on the same users, or was it luck with these users?

The test is the paired t-test over users: it asks about the mean difference, which is the figure
the tables show. Wilcoxon's test asks about another one (a signed rank sum) and drops the many
users whom both models serve equally; a randomisation test asks the same as the t-test and, with
the thousands of users of a test set, gives the same p at a far higher price.
The p value speaks of other users under these same trained models, not of other training seeds:
the standard deviation over seeds, which the tables show too, speaks of those.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recbole_hstu.evaluation.metrics import user_metric
from recbole_hstu.support.errors import InputError


class UserRanks(Protocol):
    """What a test reads of a run's rank file, all (users,): users and their ranks; how many events
    came before the target, and how often training has the target."""

    @property
    def users(self) -> NDArray[np.str_]: ...
    @property
    def ranks(self) -> NDArray[np.int64]: ...
    @property
    def history_length(self) -> NDArray[np.int64]: ...
    @property
    def target_count(self) -> NDArray[np.int64]: ...


K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class PairedTest:
    """Mean difference over users, its 95% confidence interval, and two-sided p values.

    `adjusted` is p corrected for the number of comparisons; `reference` names the other model.
    """

    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    reference: str = ""


def paired_test(
    values: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """(difference, low, high, p) of `values` against `reference`, both `(users,)`, same order.

    There are two users or more. A constant difference leaves nothing to test: p is 1 where it is
    0, and 0 otherwise.
    """
    difference = np.round(values - reference, 12)  # the order of a sum must not look like an effect
    mean = float(difference.mean())
    if np.ptp(difference) == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    outcome = stats.ttest_1samp(difference, 0.0)
    interval = outcome.confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high), float(outcome.pvalue)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): adjusted p values, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def paired_tests_against_best(
    runs: Mapping[str, Sequence[UserRanks]], baselines: Sequence[str], metrics: Sequence[str]
) -> dict[tuple[str, str], PairedTest]:
    """Test every other model against the baseline that is best by each metric.

    A model with several seeds counts with each user's mean over its seeds. The correction is for
    all the comparisons made here, models times metrics.

    Args:
        runs: model -> its runs' rank files, one a seed, at least one.
        baselines: the models among them to compare against; they are not tested themselves.

    Returns:
        (model, metric) -> test.

    Raises:
        InputError: runs that did not rank the same users.
    """
    orders = common_order(runs)
    tests: dict[tuple[str, str], tuple[float, float, float, float]] = {}
    reference: dict[str, str] = {}
    for metric in metrics:
        values = {name: _seed_mean(runs[name], orders[name], metric) for name in orders}
        best = max(baselines, key=lambda name: values[name].mean())
        reference[metric] = best
        for name in values:
            if name not in baselines:
                tests[name, metric] = paired_test(values[name], values[best])
    return adjusted_together(
        {key: PairedTest(*tests[key], tests[key][3], reference[key[1]]) for key in tests}
    )


def adjusted_together(tests: Mapping[K, PairedTest]) -> dict[K, PairedTest]:
    """The tests, their p values corrected for all of them."""
    adjusted = holm([test.p for test in tests.values()])
    return {
        key: replace(test, adjusted=float(p))
        for (key, test), p in zip(tests.items(), adjusted, strict=True)
    }


def common_order(
    runs: Mapping[str, Sequence[UserRanks]],
) -> dict[str, list[NDArray[np.int64]]]:
    """For every file the order that sorts its users; all files must hold the same users, tested on
    the same events. A data set that is converted anew keeps its name.

    Raises:
        InputError: they do not.
    """
    orders = {name: [np.argsort(file.users) for file in files] for name, files in runs.items()}
    (first_name, (first, *_)), *_ = runs.items()
    first_order = orders[first_name][0]
    first_users = first.users[first_order]
    for name, files in runs.items():
        for file, order in zip(files, orders[name], strict=True):
            users = file.users[order]
            if not np.array_equal(users, first_users):
                odd = np.setxor1d(users, first_users)
                raise InputError(
                    f"{name} and {first_name} did not rank the same users ({len(odd)} differ, "
                    f"such as {', '.join(odd[:10])}): compare runs of one data set and protocol"
                )
            other = (file.history_length[order] != first.history_length[first_order]) | (
                file.target_count[order] != first.target_count[first_order]
            )
            if other.any():
                raise InputError(
                    f"{name} and {first_name} were not tested on the same events ({other.sum()} "
                    f"users differ, such as {', '.join(users[other][:10])}): compare runs of one "
                    "data set"
                )
    return orders


def _seed_mean(
    files: Sequence[UserRanks], orders: Sequence[NDArray[np.int64]], metric: str
) -> NDArray[np.float64]:
    values = [user_metric(f.ranks[o], metric) for f, o in zip(files, orders, strict=True)]
    return np.mean(values, axis=0)
