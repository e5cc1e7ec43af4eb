//! One client for each set of credentials.

use std::sync::{Mutex, PoisonError};

use crate::{Access, Heat, Keystone, OpenStackError};

/// Clouds that are kept at one time. The one that was not used for longest is forgotten first: it costs a token to come back.
const MOST_CLOUDS: usize = 256;

/// One client for each set of credentials, so that all that work on a cloud share one token and its connections.
#[derive(Debug, Default)]
pub struct Clouds {
    known: Mutex<Vec<(Access, Heat)>>,
}

impl Clouds {
    /// The client for this access; nothing is sent yet.
    ///
    /// # Errors
    /// [`OpenStackError::Configuration`]: the address is no HTTP URL, or a certificate cannot be read.
    pub fn heat(&self, access: &Access) -> Result<Heat, OpenStackError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.iter().position(|(other, _)| other == access) {
            let entry = known.remove(place);
            let heat = entry.1.clone();
            known.push(entry);
            return Ok(heat);
        }
        let heat = Heat::new(Keystone::new(access.clone())?);
        if known.len() >= MOST_CLOUDS {
            known.remove(0);
        }
        known.push((access.clone(), heat.clone()));
        Ok(heat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(password: &str) -> Access {
        Access::new("http://127.0.0.1:1/v3", "u", password.into(), "p")
    }

    #[test]
    fn the_same_credentials_share_a_client() {
        let clouds = Clouds::default();
        let first = clouds.heat(&access("a")).unwrap();
        assert!(first.same(&clouds.heat(&access("a")).unwrap()));
        assert!(!first.same(&clouds.heat(&access("b")).unwrap()), "another password is another client");
    }

    #[test]
    fn only_so_many_are_kept() {
        let clouds = Clouds::default();
        let first = clouds.heat(&access("first")).unwrap();
        for number in 0..MOST_CLOUDS {
            clouds.heat(&access(&number.to_string())).unwrap();
        }
        assert_eq!(clouds.known.lock().unwrap().len(), MOST_CLOUDS);
        assert!(!first.same(&clouds.heat(&access("first")).unwrap()));
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_showing_what_is_secret() {
        for address in ["", "127.0.0.1:5000", "ftp://cloud/v3", "http://"] {
            let error = Clouds::default().heat(&Access::new(address, "u", "hunter2".into(), "p"));
            let error = error.err().unwrap();
            assert!(matches!(error, OpenStackError::Configuration { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
