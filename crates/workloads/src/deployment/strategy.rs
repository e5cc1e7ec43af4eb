//! The parameters of a Deployment, with Kubernetes' defaults and rounding applied.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};

/// How a Deployment replaces its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// Wanted replicas.
    pub replicas: i32,
    /// All old pods must be gone before a new one starts.
    pub recreate: bool,
    /// Pods above `replicas` that may exist during a rolling update.
    pub max_surge: i32,
    /// Pods below `replicas` that may be unavailable during a rolling update.
    pub max_unavailable: i32,
    /// No rollout takes place.
    pub paused: bool,
    /// Seconds without progress after which a rollout counts as stuck; none: never.
    pub progress_deadline_seconds: Option<i32>,
    /// Old ReplicaSets kept for rollback.
    pub revision_history_limit: Option<i32>,
    /// Seconds a pod must be ready to count as available.
    pub min_ready_seconds: i32,
}

impl Strategy {
    /// Reads the strategy of a Deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.unwrap_or_default();
        let recreate = strategy.type_.as_deref() == Some("Recreate");
        let rolling = strategy.rolling_update.unwrap_or_default();
        let default = IntOrString::String("25%".into());
        let (mut max_surge, mut max_unavailable) = (0, 0);
        if !recreate {
            max_surge = resolve(rolling.max_surge.as_ref().unwrap_or(&default), replicas, Rounding::Up);
            max_unavailable =
                resolve(rolling.max_unavailable.as_ref().unwrap_or(&default), replicas, Rounding::Down)
                    .min(replicas);
            if max_surge == 0 && max_unavailable == 0 {
                // Otherwise no step would ever be possible.
                max_unavailable = 1;
            }
        }
        Self {
            replicas,
            recreate,
            max_surge,
            max_unavailable,
            paused: spec.paused.unwrap_or(false),
            progress_deadline_seconds: spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX),
            revision_history_limit: spec.revision_history_limit,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        }
    }

    /// Pods that may exist at a time.
    pub fn max_total(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// Pods that must be available.
    pub fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

/// Which way a percentage is rounded to whole pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the next higher number.
    Up,
    /// To the next lower number.
    Down,
}

/// An absolute number, or a percentage of `total`. What is neither counts as 0; the API does not admit it.
pub fn resolve(value: &IntOrString, total: i32, rounding: Rounding) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: u64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let product = percent.min(1_000_000) * u64::try_from(total).unwrap_or(0);
            let rounded = if rounding == Rounding::Up { product.div_ceil(100) } else { product / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};

    use super::*;

    fn bounds(replicas: i32, surge: &str, unavailable: &str) -> (i32, i32) {
        let value =
            |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int);
        let deployment = Deployment {
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(value(surge)),
                        max_unavailable: Some(value(unavailable)),
                    }),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let strategy = Strategy::of(&deployment);
        (strategy.max_surge, strategy.max_unavailable)
    }

    #[test]
    fn surge_rounds_up_unavailable_rounds_down_and_both_are_never_zero() {
        assert_eq!(bounds(10, "25%", "25%"), (3, 2));
        assert_eq!(bounds(1, "25%", "25%"), (1, 0));
        assert_eq!(bounds(1, "0", "25%"), (0, 1));
        assert_eq!(bounds(4, "0", "0%"), (0, 1));
        assert_eq!(bounds(3, "1", "100"), (1, 3));
        assert_eq!(bounds(0, "25%", "25%"), (0, 1));
    }
}
