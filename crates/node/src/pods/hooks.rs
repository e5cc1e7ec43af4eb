//! Hooks at the start and the end of a container.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::{
    cri::Runtime,
    probes::{HttpClient, http_target},
};

/// Runs a hook to its end.
///
/// # Errors
/// What went wrong, in a sentence.
pub async fn run(
    handler: &LifecycleHandler,
    container: &Container,
    id: &str,
    address: Option<IpAddr>,
    runtime: &Runtime,
    http: &HttpClient,
    limit: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let done = runtime.exec_sync(id, &command, limit).await.map_err(|error| error.to_string())?;
        if done.exit_code == 0 {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(format!("command {command:?} exited with code {}: {output}", done.exit_code));
    }
    if let Some(action) = &handler.http_get {
        return http.get(&http_target(action, container, address)?, limit).await;
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    Err("hooks of this kind are not supported".to_owned())
}
