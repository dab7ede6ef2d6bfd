"""Figures of a running server, in the text format that Prometheus reads."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server; each has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU and open files
        at = self.registry
        self.requests = Counter("coembed_requests", "Requests answered", ["path", "status"], registry=at)
        self.seconds = Histogram("coembed_request_seconds", "Time to answer", ["path"], buckets=SECONDS, registry=at)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        self.batches = Histogram("coembed_batch_size", "Questions answered together", buckets=sizes, registry=at)
        self.work = Counter("coembed_batch_seconds", "Time the model worked", registry=at)
        self.waiting = Gauge("coembed_waiting", "Questions that wait for the model", registry=at)
        self.items = Gauge("coembed_items", "Items that can be found", ["index"], registry=at)

    def batch(self, size: int, seconds: float) -> None:
        """Note a batch."""
        self.batches.observe(size)
        self.work.inc(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Timed:
    """ASGI: counts and times requests by route, so that made-up paths do not make new series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), "0"  # 0: the client left before an answer

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", None) or "other"
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)
