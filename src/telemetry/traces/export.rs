//! Sends the spans to a collector over OTLP (gRPC).
//!
//! Spans are sent in the background, in batches. The queue is bounded: what a collector does not take in time is dropped,
//! and no call waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};

use super::TRACER;
use crate::config::{ObserveSettings, StartupError};
use crate::core::build;

/// How long one export may take, with its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last spans may take when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The traces of this process while they are exported.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts tracing, if the settings name a collector. The collector need not run: see `Reported`. A second call in
    /// one process has no effect. It must be called on a tokio runtime.
    ///
    /// # Errors
    /// If the system's certificates cannot be read, with `https`.
    pub fn start(settings: &ObserveSettings) -> Result<Option<Self>, StartupError> {
        let Some(endpoint) = &settings.traces_endpoint.0 else {
            return Ok(None);
        };
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT);
        if endpoint.starts_with("https:") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter = exporter.build().map_err(|error| {
            StartupError::settings(format!(
                "--traces-endpoint (LEADSMITH_TRACES_ENDPOINT) cannot be used: {error}"
            ))
        })?;
        // `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` are read too.
        let resource = Resource::builder()
            .with_service_name(service_name())
            .with_attribute(KeyValue::new("service.version", build::PACKAGE_VERSION))
            .build();
        let share = Sampler::TraceIdRatioBased(settings.traces_sample);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Reported::new(exporter))
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource)
            .build();
        // It fails if traces were started before.
        let _ = TRACER.set(provider.tracer("leadsmith"));
        Ok(Some(Self(provider)))
    }

    /// Sends the last spans, for at most 5 s.
    pub async fn stop(self) {
        // A failure was logged by `Reported`, or there was no time.
        let stop = move || self.0.shutdown_with_timeout(STOP_TIMEOUT);
        let _ = tokio::task::spawn_blocking(stop).await;
    }
}

fn service_name() -> String {
    let name = std::env::var("OTEL_SERVICE_NAME").ok();
    name.filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "leadsmith".to_owned())
}

/// An exporter that logs when exports begin to fail and when they succeed again, not each failure.
#[derive(Debug)]
struct Reported {
    exporter: SpanExporter,
    /// The spans that were dropped since exports began to fail.
    dropped: AtomicU64,
}

impl Reported {
    fn new(exporter: SpanExporter) -> Self {
        Self {
            exporter,
            dropped: AtomicU64::new(0),
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(spans = dropped, "traces are exported again");
                }
            }
            Err(error) => {
                if self.dropped.fetch_add(spans, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "traces cannot be exported: they are dropped");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
