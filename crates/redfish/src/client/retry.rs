//! When a request may be sent again, and after which pause.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use super::options::RetryPolicy;

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection: the request was not sent.
    NotSent,
    /// The connection broke or nothing came in time: nobody knows whether it was carried out.
    Unknown,
    /// The service answered with this status.
    Status(StatusCode),
}

/// Whether sending again is safe and may help.
pub(super) fn may_repeat(method: &Method, failure: Failure) -> bool {
    let idempotent = *method != Method::POST;
    match failure {
        // 503 and 429 say that the request was not even begun.
        Failure::NotSent
        | Failure::Status(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => true,
        Failure::Unknown => idempotent,
        Failure::Status(StatusCode::NOT_IMPLEMENTED) => false,
        Failure::Status(status) => idempotent && status.is_server_error(),
    }
}

/// The pause after an attempt (from 1). `spread` is in 0..1 and keeps many clients from coming back all at once.
pub(super) fn pause(policy: &RetryPolicy, attempt: u32, asked: Option<Duration>, spread: f64) -> Duration {
    let doubled =
        policy.first_pause.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let own = doubled.min(policy.longest_pause).mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0);
    asked.map_or(own, |asked| asked.min(policy.longest_pause).max(own))
}

/// The `Retry-After` of an answer, in seconds; a date is not understood.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_is_repeated() {
        use Failure::{NotSent, Status, Unknown};
        assert!(may_repeat(&Method::POST, NotSent));
        assert!(!may_repeat(&Method::POST, Unknown));
        assert!(may_repeat(&Method::GET, Unknown));
        assert!(may_repeat(&Method::POST, Status(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(!may_repeat(&Method::POST, Status(StatusCode::INTERNAL_SERVER_ERROR)));
        assert!(may_repeat(&Method::PATCH, Status(StatusCode::BAD_GATEWAY)));
        assert!(!may_repeat(&Method::GET, Status(StatusCode::NOT_FOUND)));
        assert!(!may_repeat(&Method::GET, Status(StatusCode::NOT_IMPLEMENTED)));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_respect_the_service() {
        let policy = RetryPolicy::default();
        assert_eq!(pause(&policy, 1, None, 1.0), Duration::from_millis(250));
        assert_eq!(pause(&policy, 3, None, 1.0), Duration::from_secs(1));
        assert_eq!(pause(&policy, 60, None, 1.0), policy.longest_pause);
        assert_eq!(pause(&policy, 1, Some(Duration::from_secs(2)), 0.0), Duration::from_secs(2));
        assert_eq!(pause(&policy, 1, Some(Duration::from_secs(3600)), 0.0), policy.longest_pause);
        assert_eq!(pause(&policy, 1, None, 0.0), Duration::from_millis(125));
    }
}
