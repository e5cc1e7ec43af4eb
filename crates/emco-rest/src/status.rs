//! Questions about where something stands: read here, answered from the AppContexts by whoever has them ([`StatusSource`]).

use async_trait::async_trait;
use drystone_api::emco::is_name;
use serde_json::Value;

use crate::{refusal::Refusal, request::Query};

/// Where deployments stand.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// What is asked about the deployment intent group, logical cloud or cluster at a path, which is there. What is known of its documents
    /// (names, `states`) is in `base` already, in EMCO's form; the answer adds to it what the AppContext tells.
    ///
    /// # Errors
    /// [`Refusal`], told to the client.
    async fn status(&self, path: &str, query: &StatusQuery, base: Value) -> Result<Value, Refusal>;

    /// Whether nothing of the deployment intent group, logical cloud or cluster at a path is on any cluster any more, so that it may be
    /// deleted.
    ///
    /// # Errors
    /// [`Refusal`] that says what is left.
    async fn settled(&self, path: &str) -> Result<(), Refusal>;
}

/// Which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// What has been applied: `status=deployed`.
    Deployed,
    /// What is ready: `status=ready`.
    Ready,
    /// As before release 21.09, what has been applied: `type=rsync`.
    Rsync,
    /// As before release 21.09, what is on the clusters: `type=cluster`.
    Cluster,
}

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusOutput {
    /// No applications.
    Summary,
    /// Every resource.
    #[default]
    All,
    /// Every resource, and what it looks like.
    Detail,
}

/// A list that is asked for instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusList {
    /// Names of the applications: `apps`.
    Apps,
    /// Clusters of the applications: `clusters`.
    Clusters,
    /// Resources of the applications: `resources`.
    Resources,
}

/// A question about where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusQuery {
    /// Which status.
    pub kind: StatusKind,
    /// How much is told.
    pub output: StatusOutput,
    /// Of which AppContext (a decimal number); the status context if absent.
    pub instance: Option<String>,
    /// Only of these applications, if there are any.
    pub apps: Vec<String>,
    /// Only of these clusters (`provider+cluster`), if there are any.
    pub clusters: Vec<String>,
    /// Only of resources of these names, if there are any.
    pub resources: Vec<String>,
    /// Only this list.
    pub list: Option<StatusList>,
}

impl StatusQuery {
    /// Reads a query; `is_ready` is what is asked where the query does not say.
    pub(crate) fn parse(query: &Query, is_ready: bool) -> Result<Self, Refusal> {
        let legacy = match query.get("type") {
            None => None,
            Some("rsync") => Some(StatusKind::Rsync),
            Some("cluster") => Some(StatusKind::Cluster),
            Some(other) => return Err(wrong("type", other, "rsync, cluster")),
        };
        let kind = match (query.get("status"), legacy) {
            (Some("deployed"), _) => StatusKind::Deployed,
            (Some("ready"), _) => StatusKind::Ready,
            (Some(other), _) => return Err(wrong("status", other, "deployed, ready")),
            (None, Some(legacy)) => legacy,
            (None, None) if is_ready => StatusKind::Ready,
            (None, None) => StatusKind::Rsync,
        };
        let output = match query.get("output") {
            None | Some("all") => StatusOutput::All,
            Some("summary") => StatusOutput::Summary,
            Some("detail") => StatusOutput::Detail,
            Some(other) => return Err(wrong("output", other, "summary, all, detail")),
        };
        let instance = query.get("instance");
        if let Some(instance) = instance.filter(|instance| instance.parse::<u64>().is_err()) {
            return Err(wrong("instance", instance, "the number of an AppContext"));
        }
        let all = |name: &str| {
            let named = query.iter().filter(|(other, value)| *other == name && !value.is_empty());
            // A plus that was not encoded came as a space.
            named.map(|(_, value)| value.replace(' ', "+")).collect::<Vec<_>>()
        };
        let clusters = all("cluster");
        let is_cluster =
            |name: &String| name.split_once('+').is_some_and(|(one, two)| is_name(one) && is_name(two));
        if let Some(other) = clusters.iter().find(|name| !is_cluster(name)) {
            return Err(wrong("cluster", other, "PROVIDER%2BCLUSTER"));
        }
        let is_there = |name: &str| query.iter().any(|(other, _)| other == name);
        let lists = [
            ("apps", StatusList::Apps),
            ("clusters", StatusList::Clusters),
            ("resources", StatusList::Resources),
        ];
        let list = lists.into_iter().find(|(name, _)| is_there(name)).map(|(_, list)| list);
        Ok(Self {
            kind,
            output,
            instance: instance.map(str::to_owned),
            apps: all("app"),
            clusters,
            resources: all("resource"),
            list,
        })
    }
}

fn wrong(name: &str, given: &str, known: &str) -> Refusal {
    let given: String = given.chars().take(100).collect();
    Refusal::bad_request(format!("query parameter {name}: {given:?} is not one of {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StatusQuery, Refusal> {
        StatusQuery::parse(&Query::parse(Some(text))?, false)
    }

    #[test]
    fn questions_are_read() {
        let asked =
            parse("status=ready&output=summary&app=a&app=b&cluster=p%2Bc&cluster=p+d&resource=r").unwrap();
        assert_eq!((asked.kind, asked.output, asked.list), (StatusKind::Ready, StatusOutput::Summary, None));
        assert_eq!(
            (asked.apps, asked.clusters),
            (vec!["a".into(), "b".into()], vec!["p+c".into(), "p+d".into()])
        );
        assert_eq!(parse("").unwrap().kind, StatusKind::Rsync);
        assert_eq!(parse("type=cluster&status=deployed").unwrap().kind, StatusKind::Deployed);
        assert_eq!(parse("resources&clusters").unwrap().list, Some(StatusList::Clusters));
        assert_eq!(parse("instance=123").unwrap().instance.as_deref(), Some("123"));
        for bad in
            ["status=x", "type=x", "output=x", "instance=x", "instance=-1", "cluster=c", "cluster=p%2B"]
        {
            let refused = parse(bad).unwrap_err();
            assert_eq!(refused.status, 400, "{bad}");
            let name = bad.split('=').next().unwrap();
            assert!(refused.text.contains(name), "{}", refused.text);
        }
    }
}
