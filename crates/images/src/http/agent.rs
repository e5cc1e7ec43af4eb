//! The REST agent: images are announced, uploaded, looked at and deleted.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{Path, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use drystone_api::{Artifact, ArtifactType, GROUP};
use futures::StreamExt as _;
use kube::{ResourceExt as _, api::ObjectMeta};

use super::{Access, Authorize, UPLOAD_OFFSET, form::FormReader, problem::Problem, upload};
use crate::{
    Images,
    key::ArtifactKey,
    store::UploadId,
    wire::{Announced, AnnouncementError, Record, type_of_collection},
};

/// How long the next bytes of a body may take.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// How much of the body of a refused request is still listened to, and for how long: of whom is known, and of strangers.
const LINGER: Linger = Linger { bytes: 64 * 1024 * 1024, time: Duration::from_secs(10) };
const LINGER_FOR_STRANGERS: Linger = Linger { bytes: 1024 * 1024, time: Duration::from_secs(2) };

/// How long a refused request is listened to.
#[derive(Clone, Copy)]
struct Linger {
    bytes: usize,
    time: Duration,
}

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) images: Images,
    pub(super) authorize: Arc<dyn Authorize>,
}

/// Where a request goes.
pub(super) struct Place {
    owner: String,
    cluster: String,
    kind: ArtifactType,
}

impl Front {
    /// Lets a request through, or not.
    async fn admit(
        &self,
        request: &Parts,
        verb: &'static str,
        owner: &str,
        name: &str,
    ) -> Result<(), Problem> {
        let access = Access { verb, group: GROUP, resource: "artifacts", namespace: owner, name };
        self.authorize.authorize(request, access).await.map_err(Problem::from)
    }
}

fn place((owner, cluster, kind): (String, String, String)) -> Result<Place, Problem> {
    let unknown =
        || Problem::not_found(format!("{kind:?} is none of binary_images, container_images and os_images"));
    let kind = type_of_collection(&kind).ok_or_else(unknown)?;
    // The rest of a key is checked with it.
    ArtifactKey::new(&owner, &cluster, kind, "x").map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(Place { owner, cluster, kind })
}

impl Place {
    fn key(&self, name: &str) -> Result<ArtifactKey, Problem> {
        ArtifactKey::new(&self.owner, &self.cluster, self.kind, name)
            .map_err(|error| Problem::bad_request(error.to_string()))
    }
}

/// A method that is not served.
fn not_allowed(allowed: &'static str) -> Response {
    let message = format!("only {allowed} are served here");
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Answers with a problem, and goes on listening for a while: whoever still sends would otherwise only see the connection break.
pub(super) fn refuse(problem: Problem, body: BodyDataStream) -> Response {
    refuse_after(LINGER, problem, body)
}

fn refuse_after(linger: Linger, problem: Problem, body: BodyDataStream) -> Response {
    tokio::spawn(tokio::time::timeout(linger.time, async move {
        let (mut body, mut left) = (body, linger.bytes);
        while let Some(Ok(bytes)) = body.next().await {
            left = match left.checked_sub(bytes.len()) {
                Some(left) => left,
                None => return,
            };
        }
    }));
    problem.into_response()
}

/// `…/{kind}`.
pub(super) async fn collection(
    State(front): State<Front>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let verb = if parts.method == Method::POST { "create" } else { "list" };
    if let Err(problem) = front.admit(&parts, verb, &path.0, "").await {
        return refuse_after(LINGER_FOR_STRANGERS, problem, body.into_data_stream());
    }
    let place = match place(path) {
        Ok(place) => place,
        Err(problem) => return refuse(problem, body.into_data_stream()),
    };
    match parts.method {
        Method::POST => announce(&front, &parts, &place, body).await,
        Method::GET | Method::HEAD => list(&front, &place)
            .await
            .map_or_else(IntoResponse::into_response, |list| Json(list).into_response()),
        _ => not_allowed("GET, HEAD, POST"),
    }
}

/// `…/{kind}/{name}`.
pub(super) async fn image(
    State(front): State<Front>,
    Path((owner, cluster, kind, name)): Path<(String, String, String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let verb = match parts.method {
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    // By the object's name, if it can have one: that is what a role names.
    let key = place((owner.clone(), cluster, kind)).and_then(|place| Ok((place.key(&name)?, place)));
    let object = key.as_ref().map(|(key, _)| key.object_name()).unwrap_or_default();
    if let Err(problem) = front.admit(&parts, verb, &owner, &object).await {
        return refuse_after(LINGER_FOR_STRANGERS, problem, body.into_data_stream());
    }
    let (key, place) = match key {
        Ok(key) => key,
        Err(problem) => return refuse(problem, body.into_data_stream()),
    };
    match parts.method {
        Method::GET | Method::HEAD => match found(&front, &key).await {
            Ok(artifact) => record(StatusCode::OK, &artifact),
            Err(problem) => problem.into_response(),
        },
        Method::DELETE => match delete(&front, &key).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(problem) => problem.into_response(),
        },
        Method::PUT => change(&front, &parts, &place, &key, body).await,
        Method::PATCH => upload::patch(&front, &parts, &key, body).await,
        _ => not_allowed("GET, HEAD, PUT, PATCH, DELETE"),
    }
}

/// A record, with the offset as a header too.
fn record(status: StatusCode, artifact: &Artifact) -> Response {
    let record = Record::of(artifact);
    let offset = record.image_offset;
    let mut response = (status, Json(record)).into_response();
    let headers = response.headers_mut();
    headers.insert(UPLOAD_OFFSET, offset.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn list(front: &Front, place: &Place) -> Result<Vec<Record>, Problem> {
    let all = front.images.list(&place.owner).await?;
    let mut records: Vec<Record> = all
        .iter()
        .filter(|artifact| artifact.spec.cluster == place.cluster && artifact.spec.kind == place.kind)
        .map(Record::of)
        .collect();
    records.sort_by(|a, b| a.image_name.cmp(&b.image_name));
    Ok(records)
}

/// The artifact of a key.
pub(super) async fn found(front: &Front, key: &ArtifactKey) -> Result<Artifact, Problem> {
    let found = front.images.find(key).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no image {}", key.path())))
}

/// The name under which the store knows an artifact.
pub(super) fn upload_id(artifact: &Artifact) -> Result<UploadId, Problem> {
    Ok(UploadId::new(&artifact.uid().unwrap_or_default())?)
}

/// Bytes go to the store that has those before them.
pub(super) fn only_ours(front: &Front, artifact: &Artifact) -> Result<(), Problem> {
    if front.images.is_ours(artifact) {
        return Ok(());
    }
    let urls = artifact.status.as_ref().map(|status| status.urls.join(", ")).unwrap_or_default();
    let message =
        format!("another Drystone has the bytes of this image; use that one, or delete the image ({urls})");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "Misdirected", message))
}

async fn delete(front: &Front, key: &ArtifactKey) -> Result<(), Problem> {
    let artifact = found(front, key).await?;
    match front.images.delete(&artifact).await {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    // What cannot be removed now is removed by the controller, which sees the deletion too.
    if let Err(error) = front.images.forget(&upload_id(&artifact)?).await {
        tracing::warn!("the bytes of a deleted image are not removed yet: {error}");
    }
    Ok(())
}

/// Reads the form of POST and PUT.
async fn announced(parts: &Parts, place: &Place, body: &mut BodyDataStream) -> Result<Announced, Problem> {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let wrong = |error: super::form::FormError| Problem::bad_request(error.to_string());
    let mut reader = FormReader::new(content_type.unwrap_or_default()).map_err(wrong)?;
    loop {
        match tokio::time::timeout(IDLE, body.next()).await {
            Ok(Some(Ok(bytes))) => reader.push(&bytes).map_err(wrong)?,
            Ok(Some(Err(error))) => {
                return Err(Problem::bad_request(format!("the form is cut off: {error}")));
            }
            Ok(None) => break,
            Err(_) => return Err(too_slow()),
        }
    }
    let form = reader.finish().map_err(wrong)?;
    let metadata = form.metadata.ok_or_else(|| Problem::bad_request("the form has no part `metadata`"))?;
    let announced = Announced::parse(&metadata, &place.owner, &place.cluster, place.kind);
    let announced = announced.map_err(|error| match &error {
        AnnouncementError::Json(_) => Problem::unprocessable(error.to_string()),
        AnnouncementError::Empty | AnnouncementError::Field { .. } => Problem::bad_request(error.to_string()),
    })?;
    if !form.file {
        return Err(Problem::unprocessable(
            "the form has no part `file`; it may be empty: bytes come by PATCH",
        ));
    }
    Ok(announced)
}

/// Nothing came for a while.
pub(super) fn too_slow() -> Problem {
    let message = format!("no bytes came for {} s", IDLE.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
}

/// POST.
async fn announce(front: &Front, parts: &Parts, place: &Place, body: Body) -> Response {
    let mut body = body.into_data_stream();
    let announced = match announced(parts, place, &mut body).await {
        Ok(announced) => announced,
        Err(problem) => return refuse(problem, body),
    };
    match create(front, parts, &announced).await {
        Ok(artifact) => {
            let mut response = record(StatusCode::CREATED, &artifact);
            if let Ok(location) = HeaderValue::from_str(&announced.key.path()) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

async fn create(front: &Front, parts: &Parts, announced: &Announced) -> Result<Artifact, Problem> {
    if announced.offset.unwrap_or_default() != 0 {
        return Err(Problem::bad_request("image_offset: it must be 0, for nothing has come yet"));
    }
    has_room(front, announced.length)?;
    let key = &announced.key;
    let metadata = ObjectMeta { name: Some(key.object_name()), ..ObjectMeta::default() };
    let artifact = Artifact { metadata, spec: announced.spec(), status: None };
    let created = match front.images.create(key, &artifact).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // The owner is a namespace. Whoever may make it need not do so first.
            let access = Access {
                verb: "create",
                group: "",
                resource: "namespaces",
                namespace: "",
                name: key.owner(),
            };
            front.authorize.authorize(parts, access).await.map_err(|_| {
                Problem::not_found(format!("there is no namespace {}, which the owner must be", key.owner()))
            })?;
            front.images.create_namespace(key.owner()).await?;
            front.images.create(key, &artifact).await
        }
        created => created,
    };
    let created = created.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 409 => Problem::new(
            StatusCode::CONFLICT,
            "AlreadyExists",
            format!("the image {} exists already", key.path()),
        ),
        error => error.into(),
    })?;
    // From now on it is known which store its bytes are in.
    front.images.publish(&created).await.unwrap_or_else(|error| tracing::warn!("{error}"));
    Ok(created)
}

/// Whether an image of this length could be stored.
fn has_room(front: &Front, length: u64) -> Result<(), Problem> {
    let room = front.images.store().room()?;
    if length <= room {
        return Ok(());
    }
    let message = format!("the image has {length} bytes, and the store has room for {room}");
    Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message))
}

/// PUT.
async fn change(front: &Front, parts: &Parts, place: &Place, key: &ArtifactKey, body: Body) -> Response {
    let mut body = body.into_data_stream();
    let announced = match announced(parts, place, &mut body).await {
        Ok(announced) if announced.key == *key => announced,
        Ok(announced) => {
            let message = format!(
                "image_name: {:?} is not {:?}, which the path says",
                announced.key.name(),
                key.name()
            );
            return refuse(Problem::bad_request(message), body);
        }
        Err(problem) => return refuse(problem, body),
    };
    match replace(front, &announced).await {
        Ok(artifact) => record(StatusCode::CREATED, &artifact),
        Err(problem) => problem.into_response(),
    }
}

async fn replace(front: &Front, announced: &Announced) -> Result<Artifact, Problem> {
    let mut artifact = found(front, &announced.key).await?;
    only_ours(front, &artifact)?;
    let id = upload_id(&artifact)?;
    let here = artifact.status.as_ref().map_or(0, |status| status.offset);
    let same_length = artifact.spec.length == announced.length;
    // Without an offset, bytes stay as long as they can be those of the image.
    let offset = announced.offset.unwrap_or(if same_length { here } else { 0 });
    if offset != here || !same_length {
        has_room(front, announced.length.saturating_sub(offset))?;
        // The bytes first: if this is as far as it comes, the upload does not go on before PUT is repeated.
        let rewound = front.images.store().rewind(&id, offset, announced.length).await;
        rewound.map_err(|error| Problem::from(error).at(here))?;
        front.images.set_problem(&id, None);
    }
    artifact.spec = announced.spec();
    let artifact = front.images.replace(&artifact).await?;
    front.images.publish(&artifact).await.unwrap_or_else(|error| tracing::warn!("{error}"));
    found(front, &announced.key).await
}
