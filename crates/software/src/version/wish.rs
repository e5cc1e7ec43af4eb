//! What a set may wish for: any version, one version, or conditions.

use std::cmp::Ordering;

use drystone_api::PackageManager;

use super::{DebianVersion, RpmVersion, VersionError, compare};

/// How a version compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Signs, the longer before those that they begin with.
const SIGNS: [(&str, Operator); 6] = [
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("!=", Operator::NotEqual),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How.
    pub operator: Operator,
    /// With what.
    pub version: String,
}

/// What a set wishes for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Whatever is there.
    Any,
    /// This version.
    Exact(String),
    /// A version of which all of this is true.
    Conditions(Vec<Condition>),
}

impl Wish {
    /// Reads `spec.packages[].version`. Versions must make sense to at least one package manager, for nothing is known yet
    /// of the hosts that they are for.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if !text.starts_with(['=', '!', '<', '>']) {
            check(text)?;
            return Ok(Self::Exact(text.to_owned()));
        }
        let condition = |part: &str| {
            let part = part.trim();
            let found = SIGNS.iter().find_map(|(sign, operator)| Some((part.strip_prefix(sign)?, *operator)));
            let (version, operator) = found.ok_or_else(|| VersionError::Condition(part.to_owned()))?;
            let version = version.trim();
            if version.is_empty() {
                return Err(VersionError::Condition(part.to_owned()));
            }
            check(version)?;
            Ok(Condition { operator, version: version.to_owned() })
        };
        text.split(',').map(condition).collect::<Result<_, _>>().map(Self::Conditions)
    }

    /// Whether a version fulfils it.
    ///
    /// # Errors
    /// [`VersionError`] when the package manager cannot make sense of one of the versions.
    pub fn accepts(&self, manager: PackageManager, version: &str) -> Result<bool, VersionError> {
        match self {
            Self::Any => Ok(true),
            Self::Exact(wanted) => is_same(manager, wanted, version),
            Self::Conditions(conditions) => {
                for condition in conditions {
                    if !condition.accepts(manager, version)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// The greatest of some versions that fulfils it; those that are none are passed over.
    pub fn best<'a>(
        &self,
        manager: PackageManager,
        versions: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let fulfils = |version: &&str| self.accepts(manager, version).unwrap_or(false);
        versions.into_iter().filter(fulfils).max_by(|a, b| compare(manager, a, b).unwrap_or(Ordering::Equal))
    }
}

impl Condition {
    fn accepts(&self, manager: PackageManager, version: &str) -> Result<bool, VersionError> {
        let order = || compare(manager, version, &self.version);
        Ok(match self.operator {
            Operator::Equal => is_same(manager, &self.version, version)?,
            Operator::NotEqual => !is_same(manager, &self.version, version)?,
            Operator::Less => order()?.is_lt(),
            Operator::LessOrEqual => order()?.is_le(),
            Operator::Greater => order()?.is_gt(),
            Operator::GreaterOrEqual => order()?.is_ge(),
        })
    }
}

fn check(version: &str) -> Result<(), VersionError> {
    DebianVersion::parse(version)
        .map(drop)
        .or_else(|wrong| RpmVersion::parse(version).map(drop).map_err(|_| wrong))
}

fn is_same(manager: PackageManager, wanted: &str, version: &str) -> Result<bool, VersionError> {
    match manager {
        PackageManager::Rpm => Ok(RpmVersion::parse(wanted)?.stands_for(&RpmVersion::parse(version)?)),
        _ => Ok(compare(manager, wanted, version)?.is_eq()),
    }
}
