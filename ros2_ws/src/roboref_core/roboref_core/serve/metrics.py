"""What the server counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One registry per server, so that several can live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "roboref_requests", "Requests by endpoint and status", ["endpoint", "status"], registry=self._registry
        )
        self.latency = Histogram(
            "roboref_request_seconds",
            "From the first byte to the answer",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge("roboref_in_flight", "Requests being read, waiting or answered", registry=self._registry)
        self.batch_size = Histogram(
            "roboref_batch_size",
            "Prompts per call of the model",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        self.model_seconds = Histogram(
            "roboref_model_seconds", "Duration of one call of the model", buckets=_SECONDS, registry=self._registry
        )
        self.without_depth = Counter(
            "roboref_answered_without_depth",
            "Questions that wanted depth and were answered from colour alone",
            registry=self._registry,
        )

    def batch(self, size: int, seconds: float) -> None:
        self.batch_size.observe(size)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
