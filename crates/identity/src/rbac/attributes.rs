//! What a request wants to do.

use std::fmt;

use crate::user::UserInfo;

/// A request, as authorization sees it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// The verb: `get`, `list`, `create`, … for resources; the HTTP method in lower case for other paths.
    pub verb: &'a str,
    /// To what.
    pub target: Target<'a>,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A resource of the API.
    Resource(ResourceAttributes<'a>),
    /// Another path, such as `/metrics`.
    NonResource {
        /// The path of the URL.
        path: &'a str,
    },
}

/// A resource of the API; what does not apply is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceAttributes<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// API version; policy does not look at it.
    pub version: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Subresource, such as `status`.
    pub subresource: &'a str,
    /// Namespace, empty for all of them and for cluster-scoped resources.
    pub namespace: &'a str,
    /// Name, empty when the request is about many or about one yet to be named.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request about a resource.
    pub fn resource(user: &'a UserInfo, verb: &'a str, resource: ResourceAttributes<'a>) -> Self {
        Self { user, verb, target: Target::Resource(resource) }
    }

    /// A request about another path.
    pub fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self { user, verb, target: Target::NonResource { path } }
    }

    /// The namespace, empty if there is none.
    pub fn namespace(&self) -> &'a str {
        match self.target {
            Target::Resource(resource) => resource.namespace,
            Target::NonResource { .. } => "",
        }
    }
}

impl fmt::Display for Attributes<'_> {
    /// What kubectl shows after `Error from server (Forbidden): … is forbidden:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, verb) = (&self.user.name, self.verb);
        match self.target {
            Target::NonResource { path } => write!(f, "User {user:?} cannot {verb} path {path:?}"),
            Target::Resource(resource) => {
                write!(f, "User {user:?} cannot {verb} resource \"{}", resource.resource)?;
                if !resource.subresource.is_empty() {
                    write!(f, "/{}", resource.subresource)?;
                }
                write!(f, "\" in API group {:?} ", resource.group)?;
                if resource.namespace.is_empty() {
                    f.write_str("at the cluster scope")
                } else {
                    write!(f, "in the namespace {:?}", resource.namespace)
                }
            }
        }
    }
}
