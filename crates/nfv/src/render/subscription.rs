//! `LccnSubscription` (SOL003, 5.5.2.16). How the notifier authenticates itself is never told.

use drystone_api::nfv::VnfSubscription;
use drystone_sol003::types::ApiVersion;
use serde_json::{Value, json};

use super::{Around, Members, link, path_of};
use crate::feed::Shown;

impl Shown for VnfSubscription {
    const WHAT: &'static str = "subscription";
    const DEFAULT_EXCLUDED: &'static [&'static str] = &[];
    const INDEX: &'static [&'static str] = &["callbackUri"];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        vec![("callbackUri", self.spec.callback_uri.clone())]
    }

    fn body(&self, _around: &Around, version: ApiVersion) -> Value {
        let id = self.metadata.uid.clone().unwrap_or_default();
        let mut body = Members::default();
        body.put("id", &id);
        body.put_some("filter", self.spec.filter.as_ref());
        body.put("callbackUri", &self.spec.callback_uri);
        if version == ApiVersion::V2 {
            body.put("verbosity", self.spec.verbosity);
        }
        body.put("_links", json!({"self": link(&format!("{}/subscriptions/{id}", path_of(version)))}));
        body.finish()
    }
}
