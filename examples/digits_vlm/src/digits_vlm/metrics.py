"""Prometheus metrics of one server. Each app has its own registry, so that tests do not share counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counts requests by status, time by request, and tokens by direction."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, *, model: str, weights_digest: str, version: str) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "digits_vlm_requests", "Chat completions, by HTTP status", ["status"], registry=self._registry
        )
        self.running = Gauge("digits_vlm_requests_running", "Chat completions in progress", registry=self._registry)
        self.seconds = Histogram(
            "digits_vlm_request_seconds",
            "Time from the parsed request to the answer",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.tokens = Counter("digits_vlm_tokens", "Tokens, by direction", ["direction"], registry=self._registry)
        info = Gauge(
            "digits_vlm_info", "What is served; always 1", ["model", "weights", "version"], registry=self._registry
        )
        info.labels(model, weights_digest, version).set(1)

    def render(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
