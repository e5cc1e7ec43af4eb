//! Certificate signing requests: nodes' requests are approved without a human where the access policy allows it, approved
//! ones are signed by the server's authority, old ones are removed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drystone_identity::UserInfo;
use drystone_identity::csr::CertificateSigningRequest;
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use drystone_identity::signer::{self, AutoApproval, Signer};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::namespaces::set_condition;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change as Modification, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, delete, metadata, read, system};
use crate::registry::resource::key_prefix;
use crate::request::options::DeleteOptions;
use crate::server::state::State;
use crate::storage::Stored;
use crate::storage::follow::{Change, Follower, Told};

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
/// How often requests that could not be decided are looked at again, and old ones removed.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often while there is a young request that could not be decided: a node's request may come before its Node says which
/// addresses it has.
const SWEEP_YOUNG_EVERY: Duration = Duration::from_millis(250);
/// How long a request is young.
const YOUNG: SignedDuration = SignedDuration::from_mins(1);
/// How long a certificate is valid if the request does not say.
const USUAL_VALIDITY: Duration = drystone_identity::ONE_YEAR;
/// How long requests are kept once they are decided.
const KEEP_DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long requests are kept that nobody decides.
const KEEP_PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Follows requests until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let mut follower = Follower::new(&state.objects, key_prefix(GROUP, PLURAL), &state.stopping);
    let mut pause = SWEEP_EVERY;
    loop {
        let looked_at = tokio::select! {
            told = follower.next() => match told {
                None => return,
                Some(Told::State(all)) => all,
                Some(Told::Change(Change::Put { object, .. })) => vec![object],
                Some(Told::Change(Change::Deleted(_))) => continue,
            },
            () = tokio::time::sleep(pause) => {
                pause = SWEEP_EVERY;
                match state.objects.all(&key_prefix(GROUP, PLURAL)).await {
                    Ok((all, _)) => all,
                    Err(_) => continue,
                }
            }
        };
        for stored in looked_at {
            match consider(&state, &stored).await {
                Ok(Outcome::Undecided { young: true }) => pause = SWEEP_YOUNG_EVERY,
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(name = stored.name(), %error, "a certificate signing request cannot be dealt with");
                }
            }
        }
    }
}

fn has(request: &Value, kind: &str) -> bool {
    let mut conditions = request["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] != "False")
}

/// What came of considering a request.
enum Outcome {
    /// There is nothing more to do, or a change that was just made leads on.
    Settled,
    /// Somebody else must decide, or something is not known yet.
    Undecided { young: bool },
}

async fn consider(state: &State, stored: &Stored) -> Result<Outcome, ApiError> {
    let request = read::decode(stored)?;
    let catalog = state.registry.catalog();
    let resource = catalog.resource(GROUP, "v1", PLURAL).ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(resource, "", stored.name());
    let now = Timestamp::now();
    if is_old(&request, now) {
        delete::delete(state, &target, &DeleteOptions::default()).await?;
        return Ok(Outcome::Settled);
    }
    let issued = request["status"]["certificate"].as_str().is_some_and(|text| !text.is_empty());
    if issued || has(&request, "Denied") || has(&request, "Failed") {
        return Ok(Outcome::Settled);
    }
    let Some(signer) = request["spec"]["signerName"].as_str().and_then(Signer::from_name) else {
        return Ok(Outcome::Settled);
    };
    if let Some(refusal) = denial(signer, &request) {
        decide(state, &target, "Denied", "WrongNode", &refusal).await?;
        return Ok(Outcome::Settled);
    }
    if has(&request, "Approved") {
        sign(state, &target, signer, &request).await?;
        return Ok(Outcome::Settled);
    }
    match approval(state, signer, &request).await? {
        Some(reason) => {
            decide(state, &target, "Approved", "AutoApproved", reason).await?;
            Ok(Outcome::Settled)
        }
        None => Ok(Outcome::Undecided { young: age(&request, now).is_some_and(|age| age < YOUNG) }),
    }
}

fn age(request: &Value, now: Timestamp) -> Option<SignedDuration> {
    let made = metadata::text(request, "creationTimestamp").parse::<Timestamp>().ok()?;
    Some(now.duration_since(made))
}

/// Whether a request has been kept long enough.
fn is_old(request: &Value, now: Timestamp) -> bool {
    let Some(age) = age(request, now) else { return false };
    let decided = has(request, "Approved") || has(request, "Denied") || has(request, "Failed");
    age > if decided { KEEP_DECIDED } else { KEEP_PENDING }
}

fn requester(request: &Value) -> UserInfo {
    let spec = &request["spec"];
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut user = UserInfo::new(spec["username"].as_str().unwrap_or_default(), groups);
    let texts = |values: &Value| {
        let values = values.as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    user.extra = extra.map(|(key, values)| (key.clone(), texts(values))).collect();
    user
}

/// Why a request is refused for good: somebody asks with what another host was given to join with.
fn denial(signer: Signer, request: &Value) -> Option<String> {
    if signer != Signer::ApiServerClientKubelet || has(request, "Approved") {
        // One that somebody has approved by hand is refused when it is to be signed.
        return None;
    }
    signer::denial(&parse(request).ok()?, &requester(request)).map(|refusal| refusal.to_string())
}

fn parse(request: &Value) -> Result<CertificateSigningRequest, String> {
    let encoded = request["spec"]["request"].as_str().unwrap_or_default();
    let pem = STANDARD.decode(encoded).map_err(|error| format!("spec.request is not base64: {error}"))?;
    let pem = String::from_utf8(pem).map_err(|_| "spec.request is not PEM".to_owned())?;
    CertificateSigningRequest::from_pem(&pem).map_err(|error| error.to_string())
}

fn usages(request: &Value) -> Vec<String> {
    let usages = request["spec"]["usages"].as_array().into_iter().flatten();
    usages.filter_map(|usage| usage.as_str().map(str::to_owned)).collect()
}

/// Why a request may be approved without a human; `None` if it takes one, or if it cannot be told yet.
async fn approval(state: &State, signer: Signer, request: &Value) -> Result<Option<&'static str>, ApiError> {
    let requester = requester(request);
    let Ok(parsed) = parse(request) else { return Ok(None) };
    if signer.check(&parsed, &usages(request), &requester).is_err() {
        return Ok(None);
    }
    match signer {
        Signer::ApiServerClient => Ok(None),
        Signer::ApiServerClientKubelet => {
            let Some(approval) = AutoApproval::of(&parsed, &requester) else { return Ok(None) };
            let attributes = ResourceAttributes {
                group: GROUP,
                version: "v1",
                resource: PLURAL,
                subresource: approval.subresource(),
                ..ResourceAttributes::default()
            };
            let allowed = state.authorize(&Attributes::resource(&requester, "create", attributes)).allowed;
            Ok(allowed.then_some("Auto approving kubelet client certificate after SubjectAccessReview."))
        }
        Signer::KubeletServing => {
            let certified = serves_itself(state, &requester, &parsed).await?;
            Ok(certified
                .then_some("Auto approving kubelet serving certificate for the addresses of its Node."))
        }
    }
}

/// Whether all names and addresses in a node's request are those of its own Node.
async fn serves_itself(
    state: &State,
    requester: &UserInfo,
    parsed: &CertificateSigningRequest,
) -> Result<bool, ApiError> {
    let Some(name) = requester.node_name() else { return Ok(false) };
    let catalog = state.registry.catalog();
    let Some(nodes) = catalog.resource("", "v1", "nodes") else { return Ok(false) };
    let Some(stored) = read::find(state, &Target::new(nodes, "", name)).await? else { return Ok(false) };
    let node = read::decode(&stored)?;
    let addresses: Vec<&str> = node["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|address| address["address"].as_str())
        .collect();
    let own_name = |dns: &String| dns == name || addresses.contains(&dns.as_str());
    Ok(parsed.dns_names.iter().all(own_name)
        && parsed.ip_addresses.iter().all(|ip| addresses.contains(&ip.to_string().as_str())))
}

async fn decide(
    state: &State,
    target: &Target,
    decision: &str,
    reason: &str,
    message: &str,
) -> Result<(), ApiError> {
    write(state, target, Part::Approval, &|request| {
        set_condition(request, decision, true, reason, message);
    })
    .await
}

async fn sign(state: &State, target: &Target, signer: Signer, request: &Value) -> Result<(), ApiError> {
    let Some(authority) = &state.config.certificate_authority else { return Ok(()) };
    let validity = match request["spec"]["expirationSeconds"].as_u64() {
        Some(seconds) => Duration::from_secs(seconds.max(600)).min(USUAL_VALIDITY),
        None => USUAL_VALIDITY,
    };
    let signed = parse(request).and_then(|parsed| {
        let usages = signer.check(&parsed, &usages(request), &requester(request));
        let usages = usages.map_err(|refusal| refusal.to_string())?;
        authority.sign(&parsed, &usages, validity, Timestamp::now()).map_err(|error| error.to_string())
    });
    write(state, target, Part::Status, &|request| match &signed {
        Ok(certificate) => request["status"]["certificate"] = STANDARD.encode(certificate).into(),
        Err(problem) => set_condition(request, "Failed", true, "SignerValidationFailure", problem),
    })
    .await
}

async fn write(
    state: &State,
    target: &Target,
    part: Part,
    edit: &(dyn Fn(&mut Value) + Send + Sync),
) -> Result<(), ApiError> {
    let make = |current: &Value| {
        let mut new = current.clone();
        if !new["status"].is_object() {
            new["status"] = json!({});
        }
        edit(&mut new);
        Ok((new, Ownership::Changed))
    };
    let change = Modification { part, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    modify::modify(state, target, &change, &mut Writer::new(&user, &options)).await.map(|_| ())
}
