//! Spans to an OpenTelemetry collector, over OTLP and HTTP, where the usual variable names one. Spans carry names, counts and kinds; no
//! values of records.

use std::sync::OnceLock;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The variables that name a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Sends spans from now on; none where no collector is named.
///
/// # Errors
/// What is wrong with the collector's address.
pub(super) fn layer<S>() -> Result<Option<impl Layer<S>>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|error| format!("{}: {error}", ENDPOINTS[0]))?;
    let provider = PROVIDER.get_or_init(|| {
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name("trueup").build())
            .build()
    });
    Ok(Some(tracing_opentelemetry::layer().with_tracer(provider.tracer("trueup"))))
}

/// Sends what is still to be sent.
pub(super) fn flush() {
    if let Some(provider) = PROVIDER.get() {
        // A collector that is gone takes nothing with it that anybody needs.
        let _ = provider.shutdown();
    }
}
