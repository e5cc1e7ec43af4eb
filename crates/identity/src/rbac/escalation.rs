//! Privilege escalation: whoever writes a role must hold all it grants.

use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::matching::{has, list, resource_covers, url_covers};

/// A role whose rules multiply out to more than this many single rights is refused unchecked.
const MOST_RIGHTS: usize = 100_000;
/// At most this many missing rights are told.
const MOST_TOLD: usize = 20;

/// Rights that somebody wants to grant without holding them.
#[derive(Debug, Clone, PartialEq)]
pub struct NotHeld {
    /// The rights that are missing, the first of them.
    pub rules: Vec<PolicyRule>,
    too_many: bool,
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.too_many {
            return write!(
                f,
                "the rules multiply out to more than {MOST_RIGHTS} rights: use wildcards or several roles"
            );
        }
        f.write_str("not currently held:")?;
        for rule in &self.rules {
            f.write_str("\n{")?;
            let mut separator = "";
            for (name, items) in [
                ("APIGroups", list(rule.api_groups.as_ref())),
                ("Resources", list(rule.resources.as_ref())),
                ("ResourceNames", list(rule.resource_names.as_ref())),
                ("NonResourceURLs", list(rule.non_resource_urls.as_ref())),
                ("Verbs", &rule.verbs),
            ] {
                if !items.is_empty() {
                    write!(f, "{separator}{name}:{items:?}")?;
                    separator = ", ";
                }
            }
            f.write_str("}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotHeld {}

/// Checks that `held` covers everything that `wanted` grants.
///
/// # Errors
/// [`NotHeld`] with the rights that are missing.
pub fn covers(held: &[PolicyRule], wanted: &[PolicyRule]) -> Result<(), NotHeld> {
    let rights: usize = wanted.iter().map(count).fold(0, usize::saturating_add);
    if rights > MOST_RIGHTS {
        return Err(NotHeld { rules: Vec::new(), too_many: true });
    }
    let missing: Vec<_> = wanted
        .iter()
        .flat_map(single_rights)
        .filter(|right| !held.iter().any(|rule| right.is_in(rule)))
        .take(MOST_TOLD)
        .map(Right::into_rule)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(NotHeld { rules: missing, too_many: false }) }
}

/// One verb on one thing. A wildcard in it is an ordinary item here: only a wildcard covers it.
#[derive(Clone, Copy)]
enum Right<'a> {
    Resource { verb: &'a str, group: &'a str, resource: &'a str, name: Option<&'a str> },
    Url { verb: &'a str, url: &'a str },
}

impl Right<'_> {
    fn is_in(&self, rule: &PolicyRule) -> bool {
        match *self {
            Self::Resource { verb, group, resource, name } => {
                let (kind, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let names = list(rule.resource_names.as_ref());
                has(&rule.verbs, verb)
                    && has(list(rule.api_groups.as_ref()), group)
                    && list(rule.resources.as_ref()).iter().any(|own| resource_covers(own, kind, subresource))
                    && (names.is_empty() || name.is_some_and(|name| names.iter().any(|own| own == name)))
            }
            Self::Url { verb, url } => {
                has(&rule.verbs, verb)
                    && list(rule.non_resource_urls.as_ref()).iter().any(|own| url_covers(own, url))
            }
        }
    }

    fn into_rule(self) -> PolicyRule {
        let one = |text: &str| Some(vec![text.to_owned()]);
        match self {
            Self::Resource { verb, group, resource, name } => PolicyRule {
                verbs: vec![verb.to_owned()],
                api_groups: one(group),
                resources: one(resource),
                resource_names: name.and_then(one),
                non_resource_urls: None,
            },
            Self::Url { verb, url } => PolicyRule {
                verbs: vec![verb.to_owned()],
                non_resource_urls: one(url),
                ..PolicyRule::default()
            },
        }
    }
}

fn count(rule: &PolicyRule) -> usize {
    let length = |items: &Option<Vec<String>>| items.as_ref().map_or(0, Vec::len);
    let resources = length(&rule.api_groups)
        .saturating_mul(length(&rule.resources))
        .saturating_mul(length(&rule.resource_names).max(1));
    resources.saturating_add(length(&rule.non_resource_urls)).saturating_mul(rule.verbs.len())
}

fn single_rights(rule: &PolicyRule) -> impl Iterator<Item = Right<'_>> {
    let names = list(rule.resource_names.as_ref());
    let names: Vec<Option<&str>> =
        if names.is_empty() { vec![None] } else { names.iter().map(|name| Some(name.as_str())).collect() };
    rule.verbs.iter().flat_map(move |verb| {
        let names = names.clone();
        let resources = list(rule.api_groups.as_ref()).iter().flat_map(move |group| {
            let names = names.clone();
            list(rule.resources.as_ref()).iter().flat_map(move |resource| {
                names.clone().into_iter().map(move |name| Right::Resource { verb, group, resource, name })
            })
        });
        let urls = list(rule.non_resource_urls.as_ref()).iter().map(move |url| Right::Url { verb, url });
        resources.chain(urls)
    })
}
