"""OpenTelemetry: a span per call where tracing is configured, and nothing at all where it is not.

Spans name the method, the status and the number of requests; never a payload, a key's bytes or a caller's name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

_EXPORTERS = "opentelemetry_traces_exporter"
"""The entry point group in which exporter packages register themselves."""


class Tracing:
    """Makes spans.

    Args:
        provider: where spans go.

    """

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("cryptosvc")

    @contextmanager
    def call(self, method: str, metadata: Mapping[str, str]) -> Iterator[trace.Span]:
        """Open a server span for a call; `metadata` may carry the caller's traceparent."""
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(metadata),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method},
            record_exception=False,
        ) as span:
            yield span


def configured(exporter: str, worker: str) -> Tracing:
    """Set tracing up with an installed exporter, as `console` or `otlp_proto_grpc`; it reads its own OTEL_ variables.

    Raises:
        LookupError: no package that brings this exporter is installed.
        TypeError: what is installed under the name exports no spans.

    """
    found = tuple(entry_points(group=_EXPORTERS, name=exporter))
    if not found:
        raise LookupError(
            f"no OpenTelemetry exporter {exporter!r} is installed; install the package that brings it"
        )
    made = found[0].load()()
    if not isinstance(made, SpanExporter):
        raise TypeError(f"{exporter!r} is not a span exporter")
    provider = TracerProvider(
        resource=Resource.create({"service.name": "cryptosvc", "service.instance.id": worker})
    )
    provider.add_span_processor(BatchSpanProcessor(made))
    return Tracing(provider)
