//! The keys of a context, below `/context/<id>/`.

use std::fmt;

/// A key of a context. Shown, it is what follows `/context/<id>/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<'a> {
    /// The context itself.
    Context,
    /// Whose it is.
    Meta,
    /// How far it has got.
    Status,
    /// The synchroniser's state.
    CurrentState,
    /// The state that the synchroniser works towards.
    DesiredState,
    /// Whether it is to be removed next.
    PendingTerminate,
    /// Whether the synchroniser is to stop.
    Stop,
    /// What the synchroniser was asked to do.
    Queue,
    /// The context that has the status.
    StatusContext,
    /// Names of the apps, in order.
    AppOrder,
    /// Names of the apps, each with `go`.
    AppDependency,
    /// An app.
    App(&'a str),
    /// What an app waits for.
    Dependencies(&'a str),
    /// Something of what goes to one cluster.
    Part {
        /// The app.
        app: &'a str,
        /// The cluster.
        cluster: &'a str,
        /// What of it.
        of: PartKey<'a>,
    },
}

/// A key of what goes to one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKey<'a> {
    /// That it goes there.
    Cluster,
    /// The group of the cluster.
    Group,
    /// Whether the cluster answers.
    Connectivity,
    /// Whether all resources are ready.
    ResourcesReady,
    /// The context that knows whether the cluster answers.
    Reference,
    /// What the cluster says of the resources.
    Status,
    /// Names of the resources, in order.
    Order,
    /// Names of the resources of hooks.
    Hooks,
    /// Something of a resource.
    Resource(&'a str, ResourceKey),
}

/// A key of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKey {
    /// The manifest.
    Manifest,
    /// How far it has got.
    Status,
    /// Whether it is ready.
    Ready,
    /// Whether it has succeeded.
    Success,
    /// The context that has the manifest.
    Reference,
    /// The object as it is.
    Definition,
    /// The approval of a certificate signing request.
    Approval,
    /// Names of the subresources, in order.
    SubresourceOrder,
}

impl<'a> Key<'a> {
    /// Reads what follows `/context/<id>/`; `None` for a key that EMCO does not have.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Context);
        }
        let text = text.strip_suffix('/')?;
        let (head, rest) = text.split_once('/').map_or((text, None), |(head, rest)| (head, Some(rest)));
        match (head, rest) {
            ("app", Some(rest)) => Self::parse_app(rest),
            ("meta", None) => Some(Self::Meta),
            ("status", None) => Some(Self::Status),
            ("stopflag", None) => Some(Self::Stop),
            ("statusappctxid", None) => Some(Self::StatusContext),
            ("rsync", Some("state/CurrentState")) => Some(Self::CurrentState),
            ("rsync", Some("state/DesiredState")) => Some(Self::DesiredState),
            ("rsync", Some("state/PendingTerminateFlag")) => Some(Self::PendingTerminate),
            ("rsync", Some("AppContextEventQueue")) => Some(Self::Queue),
            _ => None,
        }
    }

    fn parse_app(text: &'a str) -> Option<Self> {
        let Some((app, rest)) = text.split_once('/') else {
            return (!text.is_empty() && text != "instruction").then_some(Self::App(text));
        };
        match (app, rest) {
            ("instruction", "order") => return Some(Self::AppOrder),
            ("instruction", "dependency") => return Some(Self::AppDependency),
            ("instruction" | "", _) => return None,
            (_, "instruction/dependency") => return Some(Self::Dependencies(app)),
            _ => {}
        }
        let rest = rest.strip_prefix("cluster/")?;
        let (cluster, rest) = rest.split_once('/').map_or((rest, None), |(name, rest)| (name, Some(rest)));
        let of = match rest {
            None => PartKey::Cluster,
            Some(rest) => PartKey::parse(rest)?,
        };
        (!cluster.is_empty()).then_some(Self::Part { app, cluster, of })
    }
}

impl<'a> PartKey<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let resource = match text {
            "!@#metaGrp" => return Some(Self::Group),
            "readystatus" => return Some(Self::Connectivity),
            "resourcesready" => return Some(Self::ResourcesReady),
            "reference" => return Some(Self::Reference),
            "status" => return Some(Self::Status),
            "resource/instruction/order" => return Some(Self::Order),
            "resource/instruction/dependency" => return Some(Self::Hooks),
            _ => text.strip_prefix("resource/")?,
        };
        let (name, rest) = resource.split_once('/').map_or((resource, ""), |(name, rest)| (name, rest));
        let of = ResourceKey::ALL.into_iter().find(|key| key.path().trim_end_matches('/') == rest)?;
        (!name.is_empty() && name != "instruction").then_some(Self::Resource(name, of))
    }
}

impl ResourceKey {
    /// Every key that a resource can have.
    pub const ALL: [Self; 8] = [
        Self::Manifest,
        Self::Status,
        Self::Ready,
        Self::Success,
        Self::Reference,
        Self::Definition,
        Self::Approval,
        Self::SubresourceOrder,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Manifest => "",
            Self::Status => "status/",
            Self::Ready => "resready/",
            Self::Success => "ressuccess/",
            Self::Reference => "reference/",
            Self::Definition => "definition/",
            Self::Approval => "subresource/approval/",
            Self::SubresourceOrder => "subresource/instruction/order/",
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context => Ok(()),
            Self::Meta => f.write_str("meta/"),
            Self::Status => f.write_str("status/"),
            Self::CurrentState => f.write_str("rsync/state/CurrentState/"),
            Self::DesiredState => f.write_str("rsync/state/DesiredState/"),
            Self::PendingTerminate => f.write_str("rsync/state/PendingTerminateFlag/"),
            Self::Stop => f.write_str("stopflag/"),
            Self::Queue => f.write_str("rsync/AppContextEventQueue/"),
            Self::StatusContext => f.write_str("statusappctxid/"),
            Self::AppOrder => f.write_str("app/instruction/order/"),
            Self::AppDependency => f.write_str("app/instruction/dependency/"),
            Self::App(app) => write!(f, "app/{app}/"),
            Self::Dependencies(app) => write!(f, "app/{app}/instruction/dependency/"),
            Self::Part { app, cluster, of } => write!(f, "app/{app}/cluster/{cluster}/{of}"),
        }
    }
}

impl fmt::Display for PartKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => Ok(()),
            Self::Group => f.write_str("!@#metaGrp/"),
            Self::Connectivity => f.write_str("readystatus/"),
            Self::ResourcesReady => f.write_str("resourcesready/"),
            Self::Reference => f.write_str("reference/"),
            Self::Status => f.write_str("status/"),
            Self::Order => f.write_str("resource/instruction/order/"),
            Self::Hooks => f.write_str("resource/instruction/dependency/"),
            Self::Resource(name, of) => write!(f, "resource/{name}/{}", of.path()),
        }
    }
}
