//! Subscriptions: who wants to be told what (SOL003, 5.4.18 and 5.4.19).

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{VnfSubscription, VnfSubscriptionSpec},
};
use drystone_engine::reference::{owner_reference, reference_to};
use drystone_sol003::types::{
    ApiVersion, LccnVerbosity, LifecycleChangeNotificationsFilter, SubscriptionAuthenticationType,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::{
    callback::{Authentication, Basic, ClientCredentials},
    feed::Shown as _,
    notify::{API_VERSION_ANNOTATION, AUTHENTICATION_KEY},
    problem::Problem,
    render::path_of,
    request::{Incoming, JSON, read_json, typed},
    service::{Nfv, created, empty_response},
};

/// `LccnSubscriptionRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    callback_uri: String,
    filter: Option<LifecycleChangeNotificationsFilter>,
    authentication: Option<AuthenticationRequest>,
    verbosity: Option<LccnVerbosity>,
}

/// `SubscriptionAuthentication`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationRequest {
    auth_type: Vec<SubscriptionAuthenticationType>,
    params_basic: Option<Value>,
    params_oauth2_client_credentials: Option<Value>,
}

impl Nfv {
    /// POST `subscriptions`.
    pub(crate) async fn subscribe(
        &self,
        incoming: Incoming,
        version: ApiVersion,
    ) -> Result<Response<Body>, Problem> {
        let body = read_json(&incoming.parts, incoming.body, JSON).await?;
        let request: Request = typed(body)?;
        let authentication = request.authentication.map(authentication).transpose()?;
        check_callback(&request.callback_uri)?;
        let at = |id: &str| format!("{}{}/subscriptions/{id}", incoming.base, path_of(version));
        if version == ApiVersion::V1
            && let Some(id) = self.same_subscription(&request.callback_uri, request.filter.as_ref())
        {
            return Ok(empty_response(StatusCode::SEE_OTHER, Some(&at(&id))));
        }
        self.test_callback(&request.callback_uri, authentication.as_ref(), version).await?;
        let name = format!("vnf-subscription-{}", Uuid::new_v4());
        let secret = authentication.as_ref().map(|_| format!("{name}-authentication"));
        let mut subscription = VnfSubscription::new(
            &name,
            VnfSubscriptionSpec {
                callback_uri: request.callback_uri,
                filter: request.filter,
                verbosity: request.verbosity.unwrap_or_default(),
                authentication_types: authentication.iter().flat_map(|how| how.auth_type.clone()).collect(),
                authentication: secret.clone(),
            },
        );
        let number = if version == ApiVersion::V1 { "v1" } else { "v2" };
        subscription.annotations_mut().insert(API_VERSION_ANNOTATION.to_owned(), number.to_owned());
        let subscriptions: Api<VnfSubscription> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        let written = subscriptions.create(&PostParams::default(), &subscription).await?;
        if let (Some(name), Some(authentication)) = (secret, authentication)
            && let Err(problem) = self.keep_authentication(&written, name, &authentication).await
        {
            // Nothing is left of a subscription that could not be kept as a whole.
            let _ = subscriptions.delete(&written.name_any(), &DeleteParams::default()).await;
            return Err(problem);
        }
        self.0.feed.subscriptions.seen(&written).await;
        let id = written.uid().unwrap_or_default();
        let entry = self.0.feed.subscriptions.get(&id);
        let entry = entry.ok_or_else(|| Problem::not_found(VnfSubscription::WHAT, &id))?;
        Ok(created(entry.bytes(version, &incoming.base), &at(&id)))
    }

    async fn keep_authentication(
        &self,
        subscription: &VnfSubscription,
        name: String,
        authentication: &Authentication,
    ) -> Result<(), Problem> {
        let whole = serde_json::to_vec(authentication).map_err(|error| Problem::internal(&error))?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name),
                owner_references: Some(vec![owner_reference(&reference_to(subscription))]),
                ..ObjectMeta::default()
            },
            data: Some([(AUTHENTICATION_KEY.to_owned(), ByteString(whole))].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        secrets.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Identifier of a subscription that wants the same at the same place.
    fn same_subscription(
        &self,
        callback: &str,
        filter: Option<&LifecycleChangeNotificationsFilter>,
    ) -> Option<String> {
        let wanted = filter.cloned().unwrap_or_default();
        let known = self.0.feed.subscriptions.with("callbackUri", callback);
        let same =
            known.into_iter().find(|entry| entry.object.spec.filter.clone().unwrap_or_default() == wanted);
        same.map(|entry| entry.id.to_string())
    }

    /// Whether somebody answers there as SOL003 says (5.4.20.3.2).
    async fn test_callback(
        &self,
        uri: &str,
        authentication: Option<&Authentication>,
        version: ApiVersion,
    ) -> Result<(), Problem> {
        let Some(callbacks) = &self.0.callbacks else { return Ok(()) };
        let status = match version {
            ApiVersion::V1 => StatusCode::BAD_REQUEST,
            ApiVersion::V2 => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let why = match callbacks.call(Method::GET, uri, None, authentication).await {
            Ok(StatusCode::NO_CONTENT) => return Ok(()),
            Ok(other) => format!("GET is answered with {}, and 204 is expected", other.as_u16()),
            Err(error) => error.to_string(),
        };
        Err(Problem::new(status, format!("callbackUri: nobody listens there: {why}")))
    }

    /// DELETE `subscriptions/{id}`.
    pub(crate) async fn unsubscribe(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let missing = || Problem::not_found(VnfSubscription::WHAT, incoming.id());
        let entry = self.0.feed.subscriptions.get(incoming.id()).ok_or_else(missing)?;
        let namespace = entry.object.namespace().unwrap_or_default();
        let subscriptions: Api<VnfSubscription> = Api::namespaced(self.0.client.clone(), &namespace);
        match subscriptions.delete(&entry.object.name_any(), &DeleteParams::default()).await {
            Ok(_) => self.0.feed.subscriptions.unseen(incoming.id()).await,
            Err(kube::Error::Api(status)) if status.code == 404 => return Err(missing()),
            Err(error) => return Err(error.into()),
        }
        let mut response = empty_response(StatusCode::NO_CONTENT, None);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Whether a text is the place of somebody who can be called.
fn check_callback(uri: &str) -> Result<(), Problem> {
    check_url("callbackUri", uri).and_then(|url| {
        if url.password().is_none() && url.username().is_empty() {
            return Ok(());
        }
        let detail = "callbackUri: a name and a password belong into authentication/paramsBasic";
        Err(Problem::bad_request(detail))
    })
}

/// Reads a URL that is called.
pub(crate) fn check_url(place: &str, text: &str) -> Result<Url, Problem> {
    let wrong = || Problem::bad_request(format!("{place}: an http or https URL is expected"));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_called =
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.fragment().is_none();
    if is_called { Ok(url) } else { Err(wrong()) }
}

/// Reads how the notifier is to authenticate itself.
fn authentication(request: AuthenticationRequest) -> Result<Authentication, Problem> {
    if request.auth_type.is_empty() {
        return Err(Problem::bad_request("authentication/authType: at least one is expected"));
    }
    let mut read = Authentication::default();
    for (index, kind) in request.auth_type.iter().enumerate() {
        let needed = |name: &str| Problem::bad_request(format!("authentication/{name}: it is missing"));
        let inside = |name: &str, problem: Problem| {
            Problem::bad_request(format!("authentication/{name}/{}", problem.detail))
        };
        match kind {
            SubscriptionAuthenticationType::Basic => {
                let given = request.params_basic.clone().ok_or_else(|| needed("paramsBasic"))?;
                let basic = typed::<Basic>(given).map_err(|problem| inside("paramsBasic", problem))?;
                read.params_basic = Some(basic);
            }
            SubscriptionAuthenticationType::Oauth2ClientCredentials => {
                const NAME: &str = "paramsOauth2ClientCredentials";
                let given = request.params_oauth2_client_credentials.clone().ok_or_else(|| needed(NAME))?;
                let oauth = typed::<ClientCredentials>(given).map_err(|problem| inside(NAME, problem))?;
                check_url(&format!("authentication/{NAME}/tokenEndpoint"), &oauth.token_endpoint)?;
                read.params_oauth2_client_credentials = Some(oauth);
            }
            SubscriptionAuthenticationType::Oauth2ClientCert => {
                let detail = format!(
                    "authentication/authType/{index}: OAUTH2_CLIENT_CERT is not supported; use BASIC or OAUTH2_CLIENT_CREDENTIALS"
                );
                return Err(Problem::unprocessable(detail));
            }
        }
    }
    read.auth_type = request.auth_type;
    Ok(read)
}
