//! A client of RuntimeService and ImageService on a unix socket.

use std::{collections::HashMap, path::Path, time::Duration};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Code, Request, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::messages::{
    AttachRequest, AuthConfig, Container, ContainerConfig, ContainerEventResponse, ContainerFilter,
    ContainerRequest, ContainerStats, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse,
    CreateContainerRequest, CreateContainerResponse, Empty, ExecRequest, ExecSyncRequest, ExecSyncResponse,
    FilesystemUsage, Image, ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse,
    ListContainerStatsRequest, ListContainerStatsResponse, ListContainersRequest, ListContainersResponse,
    ListImagesRequest, ListImagesResponse, ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox,
    PodSandboxConfig, PodSandboxFilter, PodSandboxRequest, PodSandboxStatus, PodSandboxStatusRequest,
    PodSandboxStatusResponse, PortForwardRequest, PullImageRequest, PullImageResponse, RemoveImageRequest,
    RunPodSandboxRequest, RunPodSandboxResponse, RuntimeCondition, StatusRequest, StatusResponse,
    StopContainerRequest, StreamingResponse, VersionRequest, VersionResponse,
};

/// For calls that only ask or change a record.
const SHORT: Duration = Duration::from_secs(30);
/// For calls that start or stop processes.
const LONG: Duration = Duration::from_secs(120);
/// For a sandbox: its network may have to wait.
const SANDBOX: Duration = Duration::from_secs(240);
/// For an image out of a registry.
const PULL: Duration = Duration::from_secs(1800);
/// The largest message; lists of many containers are long.
const MAX_MESSAGE: usize = 16 << 20;

/// A call of the runtime that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message}")]
pub struct CriError {
    call: &'static str,
    code: Code,
    message: String,
}

impl CriError {
    pub(super) fn new(call: &'static str, status: &tonic::Status) -> Self {
        Self { call, code: status.code(), message: status.message().to_owned() }
    }

    /// Whether what was asked about does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// Whether the runtime does not know the call.
    pub fn is_unimplemented(&self) -> bool {
        self.code == Code::Unimplemented
    }

    /// Whether a call ran out of time.
    pub fn is_deadline(&self) -> bool {
        self.code == Code::DeadlineExceeded
    }

    /// Whether the runtime cannot be reached.
    pub fn is_unavailable(&self) -> bool {
        self.code == Code::Unavailable
    }

    /// What the runtime said, without the name of the call.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// A container runtime. Clones share the connection, which is made when it is needed and made again when it breaks.
#[derive(Debug, Clone)]
pub struct Runtime {
    channel: Channel,
}

macro_rules! path {
    ($service:literal, $call:literal) => {
        PathAndQuery::from_static(concat!("/runtime.v1.", $service, "/", $call))
    };
}

impl Runtime {
    /// The runtime behind a socket.
    ///
    /// # Errors
    /// If the path cannot be part of a URI.
    pub fn new(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    /// The connection, for other services on the same socket.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn call<Q, A>(
        &self,
        name: &'static str,
        path: PathAndQuery,
        deadline: Duration,
        request: Q,
    ) -> Result<A, CriError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let mut request = Request::new(request);
        request.set_timeout(deadline);
        let answer = async {
            grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            grpc.unary(request, path, ProstCodec::<Q, A>::default()).await
        };
        // The server is told the deadline, but may not keep it.
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(CriError::new(name, &status)),
            Err(_) => Err(CriError::new(
                name,
                &tonic::Status::deadline_exceeded("the runtime did not answer in time"),
            )),
        }
    }

    /// Name and version.
    pub async fn version(&self) -> Result<VersionResponse, CriError> {
        let request = VersionRequest { version: "v1".into() };
        self.call("Version", path!("RuntimeService", "Version"), SHORT, request).await
    }

    /// Its conditions, `RuntimeReady` and `NetworkReady`.
    pub async fn status(&self) -> Result<Vec<RuntimeCondition>, CriError> {
        let request = StatusRequest { verbose: false };
        let answer: StatusResponse =
            self.call("Status", path!("RuntimeService", "Status"), SHORT, request).await?;
        Ok(answer.status.map(|status| status.conditions).unwrap_or_default())
    }

    /// Makes and starts a sandbox; returns its identifier.
    pub async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, CriError> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let path = path!("RuntimeService", "RunPodSandbox");
        let answer: RunPodSandboxResponse = self.call("RunPodSandbox", path, SANDBOX, request).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Stops a sandbox and frees its network. Idempotent.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = PodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let path = path!("RuntimeService", "StopPodSandbox");
        self.call::<_, Empty>("StopPodSandbox", path, LONG, request).await.map(drop)
    }

    /// Removes a sandbox and its containers. Idempotent.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = PodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let path = path!("RuntimeService", "RemovePodSandbox");
        self.call::<_, Empty>("RemovePodSandbox", path, LONG, request).await.map(drop)
    }

    /// State and address of a sandbox.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<Option<PodSandboxStatus>, CriError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let path = path!("RuntimeService", "PodSandboxStatus");
        let answer: PodSandboxStatusResponse = self.call("PodSandboxStatus", path, SHORT, request).await?;
        Ok(answer.status)
    }

    /// Sandboxes with these labels.
    pub async fn list_pod_sandboxes(
        &self,
        labels: HashMap<String, String>,
    ) -> Result<Vec<PodSandbox>, CriError> {
        let filter = PodSandboxFilter { label_selector: labels, ..PodSandboxFilter::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let path = path!("RuntimeService", "ListPodSandbox");
        let answer: ListPodSandboxResponse = self.call("ListPodSandbox", path, SHORT, request).await?;
        Ok(answer.items)
    }

    /// Makes a container; returns its identifier.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, CriError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let path = path!("RuntimeService", "CreateContainer");
        let answer: CreateContainerResponse = self.call("CreateContainer", path, LONG, request).await?;
        Ok(answer.container_id)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = ContainerRequest { container_id: id.to_owned() };
        let path = path!("RuntimeService", "StartContainer");
        self.call::<_, Empty>("StartContainer", path, LONG, request).await.map(drop)
    }

    /// Stops a container: asks it to end, and kills it after `grace`. Idempotent.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        let path = path!("RuntimeService", "StopContainer");
        self.call::<_, Empty>("StopContainer", path, LONG.saturating_add(grace), request).await.map(drop)
    }

    /// Removes a container. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let request = ContainerRequest { container_id: id.to_owned() };
        let path = path!("RuntimeService", "RemoveContainer");
        self.call::<_, Empty>("RemoveContainer", path, LONG, request).await.map(drop)
    }

    /// Containers with these labels.
    pub async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<Container>, CriError> {
        let filter = ContainerFilter { label_selector: labels, ..ContainerFilter::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        let path = path!("RuntimeService", "ListContainers");
        let answer: ListContainersResponse = self.call("ListContainers", path, SHORT, request).await?;
        Ok(answer.containers)
    }

    /// Everything about a container.
    pub async fn container_status(&self, id: &str) -> Result<Option<ContainerStatus>, CriError> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let path = path!("RuntimeService", "ContainerStatus");
        let answer: ContainerStatusResponse = self.call("ContainerStatus", path, SHORT, request).await?;
        Ok(answer.status)
    }

    /// Makes the runtime write a container's log to a new file under the old name.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        let request = ContainerRequest { container_id: id.to_owned() };
        let path = path!("RuntimeService", "ReopenContainerLog");
        self.call::<_, Empty>("ReopenContainerLog", path, SHORT, request).await.map(drop)
    }

    /// Runs a command in a container and waits for its end.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecSyncResponse, CriError> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request =
            ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout: seconds };
        // The runtime counts from when the command runs, and kills it.
        let deadline = timeout.saturating_add(Duration::from_secs(5));
        self.call("ExecSync", path!("RuntimeService", "ExecSync"), deadline, request).await
    }

    /// Where to fetch the streams of a command.
    pub async fn exec(&self, request: ExecRequest) -> Result<String, CriError> {
        let path = path!("RuntimeService", "Exec");
        self.call("Exec", path, SHORT, request).await.map(|answer: StreamingResponse| answer.url)
    }

    /// Where to fetch the streams of a container.
    pub async fn attach(&self, request: AttachRequest) -> Result<String, CriError> {
        let path = path!("RuntimeService", "Attach");
        self.call("Attach", path, SHORT, request).await.map(|answer: StreamingResponse| answer.url)
    }

    /// Where to reach ports of a sandbox.
    pub async fn port_forward(&self, request: PortForwardRequest) -> Result<String, CriError> {
        let path = path!("RuntimeService", "PortForward");
        self.call("PortForward", path, SHORT, request).await.map(|answer: StreamingResponse| answer.url)
    }

    /// What running containers use.
    pub async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, CriError> {
        let request = ListContainerStatsRequest { filter: None };
        let path = path!("RuntimeService", "ListContainerStats");
        let answer: ListContainerStatsResponse =
            self.call("ListContainerStats", path, SHORT, request).await?;
        Ok(answer.stats)
    }

    /// A stream of what happens to containers; older runtimes do not implement it.
    pub async fn container_events(&self) -> Result<Streaming<ContainerEventResponse>, CriError> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let failed = |status: tonic::Status| CriError::new("GetContainerEvents", &status);
        grpc.ready().await.map_err(|error| failed(tonic::Status::unavailable(error.to_string())))?;
        let path = path!("RuntimeService", "GetContainerEvents");
        let codec = ProstCodec::<Empty, ContainerEventResponse>::default();
        let answer = grpc.server_streaming(Request::new(Empty {}), path, codec).await;
        answer.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Images on the node.
    pub async fn list_images(&self) -> Result<Vec<Image>, CriError> {
        let request = ListImagesRequest { filter: None };
        let path = path!("ImageService", "ListImages");
        self.call("ListImages", path, SHORT, request).await.map(|answer: ListImagesResponse| answer.images)
    }

    /// An image, if it is on the node.
    pub async fn image_status(&self, image: &str) -> Result<Option<Image>, CriError> {
        let request = ImageStatusRequest { image: Some(spec(image)), verbose: false };
        let path = path!("ImageService", "ImageStatus");
        self.call("ImageStatus", path, SHORT, request).await.map(|answer: ImageStatusResponse| answer.image)
    }

    /// Fetches an image from its registry; returns the reference that containers are made with.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String, CriError> {
        let request = PullImageRequest { image: Some(spec(image)), auth, sandbox_config };
        let path = path!("ImageService", "PullImage");
        self.call("PullImage", path, PULL, request).await.map(|answer: PullImageResponse| answer.image_ref)
    }

    /// Removes an image. Idempotent.
    pub async fn remove_image(&self, image: &str) -> Result<(), CriError> {
        let request = RemoveImageRequest { image: Some(spec(image)) };
        let path = path!("ImageService", "RemoveImage");
        self.call::<_, Empty>("RemoveImage", path, LONG, request).await.map(drop)
    }

    /// Where images are, and how much they use.
    pub async fn image_filesystems(&self) -> Result<Vec<FilesystemUsage>, CriError> {
        let path = path!("ImageService", "ImageFsInfo");
        let answer: ImageFsInfoResponse = self.call("ImageFsInfo", path, SHORT, Empty {}).await?;
        Ok(answer.image_filesystems)
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..ImageSpec::default() }
}
