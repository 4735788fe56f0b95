"""What Prometheus reads at GET /metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from recbole_hstu.service.served_model import ServedModel

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "recbole_hstu_requests",
            "Requests answered.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "recbole_hstu_request_seconds",
            "From the head of a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "recbole_hstu_requests_waiting", "Requests at work.", registry=self.registry
        )
        self.batch = Histogram(
            "recbole_hstu_batch_requests",
            "Requests that were computed together.",
            buckets=_REQUESTS,
            registry=self.registry,
        )
        self._users = Gauge(
            "recbole_hstu_cached_users",
            "Users whose events are kept.",
            ["model"],
            registry=self.registry,
        )
        self._forgotten = Gauge(
            "recbole_hstu_forgotten_users",
            "Users who had to make room since the start.",
            ["model"],
            registry=self.registry,
        )

        for model in models:
            self._watch(model)

    def _watch(self, model: ServedModel) -> None:
        """Follow its cache."""
        store = model.cache.store
        self._users.labels(model.name).set_function(lambda: len(store))
        self._forgotten.labels(model.name).set_function(lambda: store.forgotten)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
