//! gRPC's health protocol: all services are serving while the process is ready.
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use super::Readiness;

/// Returns the health service for these names; it follows `ready`.
pub(crate) async fn service(
    names: &[&'static str],
    mut ready: watch::Receiver<Readiness>,
) -> HealthServer<impl Health + use<>> {
    let reporter = HealthReporter::new();
    let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
    // The empty name is the whole process.
    let names: Vec<&str> = names.iter().copied().chain([""]).collect();
    let first = *ready.borrow_and_update();
    tell(&reporter, &names, first).await;
    tokio::spawn(async move {
        while ready.changed().await.is_ok() {
            let now = *ready.borrow_and_update();
            tell(&reporter, &names, now).await;
        }
    });
    HealthServer::new(service)
}

async fn tell(reporter: &HealthReporter, names: &[&str], ready: Readiness) {
    let status = match ready {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::Starting | Readiness::Draining => ServingStatus::NotServing,
    };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}
