//! Between messages and what they mean. Pure.

use drystone_appcontext::{
    ClusterName, ContextId,
    contract::{ControllerError, Event},
};

use crate::{
    messages as wire,
    notices::{
        AppStatus, ClusterEvent, ClusterStatus, Readiness, ResourceStatus, StatusKind, StatusNotice,
        StatusQuery, StatusSubject, StatusValue,
    },
};

/// What Go prints for "none": the context before the first one.
const NONE: &str = "<nil>";

/// Something that a peer sent has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Meaningless {
    #[error("{field} is {value:?}, which is no AppContext: it must be a positive number, in decimal")]
    Context { field: &'static str, value: String },
    #[error("{field} is {value:?}, which is no cluster: it must be PROVIDER+CLUSTER")]
    Cluster { field: &'static str, value: String },
    #[error("{field} is {value}, which means nothing")]
    Number { field: &'static str, value: i32 },
    #[error("{field} is missing")]
    Missing { field: &'static str },
}

pub(crate) fn context(field: &'static str, value: &str) -> Result<ContextId, Meaningless> {
    value.parse().map_err(|_| Meaningless::Context { field, value: shortened(value) })
}

/// The context that is replaced, if there is one.
pub(crate) fn earlier_context(value: &str) -> Result<Option<ContextId>, Meaningless> {
    match value {
        "" | NONE => Ok(None),
        value => context("update_from_appContext", value).map(Some),
    }
}

/// The context that is replaced, as it is sent.
pub(crate) fn earlier(from: Option<ContextId>) -> String {
    from.map_or_else(|| NONE.to_owned(), |id| id.to_string())
}

/// Texts of peers are not repeated whole.
fn shortened(value: &str) -> String {
    value.chars().take(80).collect()
}

pub(crate) fn cluster(field: &'static str, value: &str) -> Result<ClusterName, Meaningless> {
    let meaningless = || Meaningless::Cluster { field, value: shortened(value) };
    value.parse().map_err(|_| meaningless())
}

fn cluster_of(field: &'static str, provider: &str, name: &str) -> Result<ClusterName, Meaningless> {
    cluster(field, &format!("{provider}+{name}"))
}

pub(crate) fn event_to_wire(event: Event) -> wire::EventType {
    match event {
        Event::Instantiate => wire::EventType::Instantiate,
        Event::Terminate => wire::EventType::Terminate,
        Event::Update => wire::EventType::Update,
    }
}

pub(crate) fn event(value: i32) -> Result<Event, Meaningless> {
    let meaningless = Meaningless::Number { field: "event_type", value };
    Ok(match wire::EventType::try_from(value).map_err(|_| meaningless)? {
        wire::EventType::Instantiate => Event::Instantiate,
        wire::EventType::Terminate => Event::Terminate,
        wire::EventType::Update => Event::Update,
    })
}

pub(crate) fn cluster_event_request(cluster: &ClusterName, event: ClusterEvent) -> wire::ClusterEventRequest {
    let event = match event {
        ClusterEvent::Created => wire::ClusterEventType::Created,
        ClusterEvent::Updated => wire::ClusterEventType::Updated,
        ClusterEvent::Deleted => wire::ClusterEventType::Deleted,
    };
    wire::ClusterEventRequest {
        provider_name: cluster.provider.clone(),
        cluster_name: cluster.cluster.clone(),
        event: event.into(),
    }
}

pub(crate) fn cluster_event(
    request: &wire::ClusterEventRequest,
) -> Result<(ClusterName, ClusterEvent), Meaningless> {
    let cluster = cluster_of("providerName, clusterName", &request.provider_name, &request.cluster_name)?;
    let meaningless = Meaningless::Number { field: "event", value: request.event };
    let event = match wire::ClusterEventType::try_from(request.event).map_err(|_| meaningless)? {
        wire::ClusterEventType::Created => ClusterEvent::Created,
        wire::ClusterEventType::Updated => ClusterEvent::Updated,
        wire::ClusterEventType::Deleted => ClusterEvent::Deleted,
    };
    Ok((cluster, event))
}

/// What is sent to a client of `readyNotify`, which calls itself `client`.
pub(crate) fn readiness_to_wire(client: &str, notice: &Readiness) -> wire::ReadyNotification {
    wire::ReadyNotification {
        client_name: client.to_owned(),
        server_name: "drystone".into(),
        app_context: notice.id.to_string(),
        app: notice.app.clone(),
        cluster: notice.cluster.to_string(),
    }
}

pub(crate) fn readiness(notice: &wire::ReadyNotification) -> Result<Readiness, Meaningless> {
    Ok(Readiness {
        id: context("appContext", &notice.app_context)?,
        app: notice.app.clone(),
        cluster: cluster("cluster", &notice.cluster)?,
    })
}

pub(crate) fn status_registration(query: &StatusQuery) -> wire::StatusRegistration {
    let key = match &query.subject {
        StatusSubject::Group { project, composite_app, version, group } => {
            wire::StatusKey::Group(wire::GroupKey {
                project: project.clone(),
                composite_app: composite_app.clone(),
                composite_app_version: version.clone(),
                deployment_intent_group: group.clone(),
            })
        }
        StatusSubject::LogicalCloud { project, logical_cloud } => {
            wire::StatusKey::LogicalCloud(wire::LogicalCloudKey {
                project: project.clone(),
                logical_cloud: logical_cloud.clone(),
            })
        }
        StatusSubject::Cluster(cluster) => wire::StatusKey::Cluster(wire::ClusterKey {
            cluster_provider: cluster.provider.clone(),
            cluster: cluster.cluster.clone(),
        }),
    };
    let status_type = match query.kind {
        StatusKind::Ready => wire::StatusValue::Ready,
        StatusKind::Deployed => wire::StatusValue::Deployed,
    };
    let output = if query.details { wire::Output::All } else { wire::Output::Summary };
    wire::StatusRegistration {
        client_id: query.client.clone(),
        key: Some(key),
        status_type: status_type.into(),
        apps: query.apps.clone(),
        clusters: query.clusters.clone(),
        resources: query.resources.clone(),
        output: output.into(),
    }
}

pub(crate) fn status_query(registration: wire::StatusRegistration) -> Result<StatusQuery, Meaningless> {
    let subject = match registration.key {
        None => return Err(Meaningless::Missing { field: "digKey, lcKey or clusterKey" }),
        Some(wire::StatusKey::Group(key)) => StatusSubject::Group {
            project: key.project,
            composite_app: key.composite_app,
            version: key.composite_app_version,
            group: key.deployment_intent_group,
        },
        Some(wire::StatusKey::LogicalCloud(key)) => {
            StatusSubject::LogicalCloud { project: key.project, logical_cloud: key.logical_cloud }
        }
        Some(wire::StatusKey::Cluster(key)) => {
            StatusSubject::Cluster(cluster_of("clusterKey", &key.cluster_provider, &key.cluster)?)
        }
    };
    let kind = match wire::StatusValue::try_from(registration.status_type) {
        Ok(wire::StatusValue::Ready | wire::StatusValue::NotReady) => StatusKind::Ready,
        Ok(wire::StatusValue::Deployed | wire::StatusValue::NotDeployed) => StatusKind::Deployed,
        Ok(wire::StatusValue::Error) | Err(_) => {
            return Err(Meaningless::Number { field: "statusType", value: registration.status_type });
        }
    };
    let details = match wire::Output::try_from(registration.output) {
        Ok(output) => output == wire::Output::All,
        Err(_) => return Err(Meaningless::Number { field: "output", value: registration.output }),
    };
    let wire::StatusRegistration { client_id: client, apps, clusters, resources, .. } = registration;
    Ok(StatusQuery { client, subject, kind, apps, clusters, resources, details })
}

pub(crate) fn status_notice_to_wire(notice: StatusNotice) -> wire::StatusNotification {
    let apps = notice.apps.into_iter().map(|app| {
        wire::StatusDetailOf::App(wire::AppStatus {
            app: app.app,
            status_value: value_to_wire(app.value),
            clusters: app.clusters.into_iter().map(cluster_status_to_wire).collect(),
        })
    });
    let clusters = notice
        .clusters
        .into_iter()
        .map(|cluster| wire::StatusDetailOf::Cluster(cluster_status_to_wire(cluster)));
    wire::StatusNotification {
        status_value: value_to_wire(notice.value),
        details: apps.chain(clusters).map(|of| wire::StatusDetail { of: Some(of) }).collect(),
    }
}

pub(crate) fn status_notice(notification: wire::StatusNotification) -> Result<StatusNotice, Meaningless> {
    let (mut apps, mut clusters) = (Vec::new(), Vec::new());
    for detail in notification.details {
        match detail.of {
            Some(wire::StatusDetailOf::App(app)) => apps.push(AppStatus {
                app: app.app,
                value: value(app.status_value)?,
                clusters: app.clusters.into_iter().map(cluster_status).collect::<Result<_, _>>()?,
            }),
            Some(wire::StatusDetailOf::Cluster(cluster)) => clusters.push(cluster_status(cluster)?),
            // A later version may tell of something else.
            None => {}
        }
    }
    Ok(StatusNotice { value: value(notification.status_value)?, apps, clusters })
}

fn cluster_status_to_wire(status: ClusterStatus) -> wire::ClusterStatus {
    let resources = status.resources.into_iter().map(|resource| wire::ResourceStatus {
        name: resource.name,
        gvk: Some(wire::GroupVersionKind {
            group: resource.group,
            version: resource.version,
            kind: resource.kind,
        }),
        status_value: value_to_wire(resource.value),
    });
    wire::ClusterStatus {
        cluster_provider: status.cluster.provider.clone(),
        cluster: status.cluster.cluster.clone(),
        status_value: value_to_wire(status.value),
        resources: resources.collect(),
    }
}

fn cluster_status(status: wire::ClusterStatus) -> Result<ClusterStatus, Meaningless> {
    let mut resources = Vec::with_capacity(status.resources.len());
    for resource in status.resources {
        let kind = resource.gvk.unwrap_or_default();
        resources.push(ResourceStatus {
            name: resource.name,
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            value: value(resource.status_value)?,
        });
    }
    Ok(ClusterStatus {
        cluster: cluster_of("clusterProvider, cluster", &status.cluster_provider, &status.cluster)?,
        value: value(status.status_value)?,
        resources,
    })
}

fn value_to_wire(value: StatusValue) -> i32 {
    let value = match value {
        StatusValue::Error => wire::StatusValue::Error,
        StatusValue::NotReady => wire::StatusValue::NotReady,
        StatusValue::Ready => wire::StatusValue::Ready,
        StatusValue::NotDeployed => wire::StatusValue::NotDeployed,
        StatusValue::Deployed => wire::StatusValue::Deployed,
    };
    value.into()
}

fn value(value: i32) -> Result<StatusValue, Meaningless> {
    let meaningless = Meaningless::Number { field: "statusValue", value };
    Ok(match wire::StatusValue::try_from(value).map_err(|_| meaningless)? {
        wire::StatusValue::Error => StatusValue::Error,
        wire::StatusValue::NotReady => StatusValue::NotReady,
        wire::StatusValue::Ready => StatusValue::Ready,
        wire::StatusValue::NotDeployed => StatusValue::NotDeployed,
        wire::StatusValue::Deployed => StatusValue::Deployed,
    })
}

/// A peer's answer that means nothing has not done what was asked.
impl From<Meaningless> for ControllerError {
    fn from(error: Meaningless) -> Self {
        Self::Refused(format!("the answer makes no sense: {error}"))
    }
}

#[cfg(test)]
mod tests;
