//! Content of a package comes in: from the client, or from where the client says.

use axum::{
    body::{Body, BodyDataStream},
    http::{Response, StatusCode, header},
};
use drystone_api::nfv::{PackageContent, VnfPackage, VnfPackageSource};
use drystone_engine::reference::{ObjectKey, owner_reference, reference_to};
use drystone_sol003::types::PackageOnboardingState;
use futures::StreamExt as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    content::{ContentError, Received},
    problem::Problem,
    render::onboarding_state,
    request::{IDLE, Incoming, JSON, check_media, read_json, typed},
    service::{Nfv, empty_response},
    subscriptions::check_url,
    writes::update,
};

/// Media type of packages.
const ZIP: &str = "application/zip";

/// `UploadVnfPackageFromUriRequest`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FromUri {
    address_information: String,
    user_name: Option<String>,
    password: Option<String>,
}

impl From<ContentError> for Problem {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::NotFound(why) => Self::new(StatusCode::NOT_FOUND, why),
            ContentError::TooLarge(why) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, why),
            ContentError::Invalid(why) => Self::bad_request(why),
            ContentError::Failed(why) => Self::internal(&why),
        }
    }
}

/// That content of a package is arriving; ends when it is dropped, whatever happened.
struct Arriving<'a> {
    nfv: &'a Nfv,
    id: &'a str,
    key: ObjectKey,
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.nfv.0.around.end_upload(self.id);
        self.nfv.0.feed.packages.take(&self.key);
    }
}

fn has_content(id: &str) -> Problem {
    Problem::conflict(format!("VNF package {id} is not CREATED: it has content, or some is arriving"))
}

impl Nfv {
    /// PUT `vnf_packages/{id}/package_content`.
    pub(crate) async fn upload_content(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        let entry = self.package(&id)?;
        check_media(&incoming.parts, ZIP)?;
        let length = incoming.parts.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let arriving = self.arriving(&id, &entry.object)?;
        let received = self.receive(&id, length, incoming.body.into_stream()).await?;
        let api = self.packages_api(&entry.object);
        let written = update(&api, entry.object.as_ref(), |package| {
            // Another upload may have ended since it was looked at.
            if onboarding_state(package, false) != PackageOnboardingState::Created {
                return Err(has_content(&id));
            }
            let before = package.spec.content.as_ref().map_or(0, |content| content.upload);
            package.spec.content = Some(PackageContent {
                upload: before + 1,
                sha256: received.sha256.clone(),
                length: received.length,
            });
            package.spec.source = None;
            Ok(())
        });
        let written = written.await?;
        // Until it is seen that there is content, it counts as arriving.
        self.0.feed.packages.seen(&written).await;
        drop(arriving);
        Ok(empty_response(StatusCode::ACCEPTED, None))
    }

    /// Says that content arrives, if some may.
    fn arriving<'a>(&'a self, id: &'a str, package: &VnfPackage) -> Result<Arriving<'a>, Problem> {
        let around = &self.0.around;
        let state = onboarding_state(package, around.is_uploading(id));
        if state != PackageOnboardingState::Created || !around.begin_upload(id) {
            return Err(has_content(id));
        }
        let key = ObjectKey::of(package);
        let arriving = Arriving { nfv: self, id, key };
        self.0.feed.packages.take(&arriving.key);
        Ok(arriving)
    }

    async fn receive(
        &self,
        id: &str,
        length: Option<u64>,
        mut stream: BodyDataStream,
    ) -> Result<Received, Problem> {
        let mut upload = self.0.content.begin(id, length).await?;
        let mut come = 0_u64;
        loop {
            match tokio::time::timeout(IDLE, stream.next()).await {
                Ok(Some(Ok(bytes))) => {
                    come += bytes.len() as u64;
                    upload.write(bytes).await?;
                }
                Ok(Some(Err(error))) => {
                    return Err(Problem::bad_request(format!(
                        "the content is cut off after {come} bytes: {error}"
                    )));
                }
                Ok(None) => break,
                Err(_) => {
                    let detail = format!("no bytes came for {} s", IDLE.as_secs());
                    return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
                }
            }
        }
        if come == 0 {
            return Err(Problem::bad_request("the body is empty; a CSAR is expected, a zip archive"));
        }
        Ok(upload.finish().await?)
    }

    /// POST `vnf_packages/{id}/package_content/upload_from_uri`.
    pub(crate) async fn upload_from_uri(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        let entry = self.package(&id)?;
        let request: FromUri = typed(read_json(&incoming.parts, incoming.body, JSON).await?)?;
        let url = check_url("addressInformation", &request.address_information)?;
        if url.password().is_some() || !url.username().is_empty() {
            let detail = "addressInformation: a name and a password belong into userName and password";
            return Err(Problem::bad_request(detail));
        }
        let state = onboarding_state(&entry.object, self.0.around.is_uploading(&id));
        if state != PackageOnboardingState::Created {
            return Err(has_content(&id));
        }
        let credentials = self.keep_credentials(&entry.object, &request).await?;
        let source = VnfPackageSource { url: request.address_information, credentials };
        let api = self.packages_api(&entry.object);
        let mut package = (*entry.object).clone();
        if package.spec.source.as_ref() == Some(&source) {
            // The same again is to be fetched again: what does not change nobody would see.
            package = update(&api, &package, |package| {
                package.spec.source = None;
                Ok(())
            })
            .await?;
        }
        let written = update(&api, &package, |package| {
            if package.spec.source.is_some() && package.spec.source != entry.object.spec.source {
                return Err(Problem::conflict(format!("VNF package {id} is being fetched already")));
            }
            package.spec.source = Some(source.clone());
            package.spec.content = None;
            Ok(())
        });
        let written = written.await?;
        self.0.feed.packages.seen(&written).await;
        Ok(empty_response(StatusCode::ACCEPTED, None))
    }

    /// Keeps the credentials of a place in a Secret; returns its name.
    async fn keep_credentials(
        &self,
        package: &VnfPackage,
        request: &FromUri,
    ) -> Result<Option<String>, Problem> {
        if request.user_name.is_none() && request.password.is_none() {
            return Ok(None);
        }
        let name = format!("{}-source-{}", package.name_any(), Uuid::new_v4().simple());
        let bytes = |text: &Option<String>| ByteString(text.clone().unwrap_or_default().into_bytes());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![owner_reference(&reference_to(package))]),
                ..ObjectMeta::default()
            },
            data: Some(
                [
                    ("username".to_owned(), bytes(&request.user_name)),
                    ("password".to_owned(), bytes(&request.password)),
                ]
                .into(),
            ),
            ..Secret::default()
        };
        let namespace = package.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.0.client.clone(), &namespace);
        secrets.create(&PostParams::default(), &secret).await?;
        Ok(Some(name))
    }
}
