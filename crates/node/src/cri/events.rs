//! What happens to containers, as it happens.
//!
//! CRI's own stream (`GetContainerEvents`) exists since containerd 1.7 and CRI-O 1.26. Before, containerd's native event service
//! on the same socket tells as much. A runtime that has neither is asked at short intervals by the caller.

use futures::{Stream, StreamExt, stream::BoxStream};
use http::uri::PathAndQuery;
use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;

use super::{CriError, Runtime};

/// Something happened to a container or a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// Identifier of the container or sandbox.
    pub id: String,
    /// Identifier of the pod, when the runtime tells it.
    pub pod_uid: Option<String>,
}

/// Subscribes to events; the stream ends when the connection breaks.
///
/// # Errors
/// [`CriError::is_unimplemented`] if the runtime has no events of either kind.
pub async fn subscribe(runtime: &Runtime) -> Result<BoxStream<'static, RuntimeEvent>, CriError> {
    match runtime.container_events().await {
        Ok(stream) => Ok(until_error(stream)
            .map(|event| RuntimeEvent {
                pod_uid: event.pod_sandbox_status.and_then(|status| status.metadata).map(|pod| pod.uid),
                id: event.container_id,
            })
            .boxed()),
        Err(error) if error.is_unimplemented() => containerd_events(runtime).await,
        Err(error) => Err(error),
    }
}

fn until_error<T: Send + 'static>(stream: tonic::Streaming<T>) -> impl Stream<Item = T> + Send {
    stream
        .take_while(|item| std::future::ready(item.is_ok()))
        .filter_map(|item| std::future::ready(item.ok()))
}

/// `containerd.services.events.v1.Events/Subscribe`, for exits only: everything else the agent does itself.
async fn containerd_events(runtime: &Runtime) -> Result<BoxStream<'static, RuntimeEvent>, CriError> {
    let failed = |status: tonic::Status| CriError::new("Subscribe", &status);
    let mut grpc = Grpc::new(runtime.channel());
    grpc.ready().await.map_err(|error| failed(tonic::Status::unavailable(error.to_string())))?;
    let path = PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let filters = vec![r#"topic=="/tasks/exit",namespace==k8s.io"#.to_owned()];
    let codec = ProstCodec::<wire::SubscribeRequest, wire::Envelope>::default();
    let answer = grpc.server_streaming(Request::new(wire::SubscribeRequest { filters }), path, codec).await;
    let stream = answer.map_err(failed)?.into_inner();
    Ok(until_error(stream).filter_map(|envelope| std::future::ready(wire::exit(envelope))).boxed())
}

/// containerd's own messages, as far as they are needed.
mod wire {
    use prost::Message;

    use super::RuntimeEvent;

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct SubscribeRequest {
        #[prost(string, repeated, tag = "1")]
        pub(super) filters: Vec<String>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Envelope {
        #[prost(string, tag = "3")]
        pub(super) topic: String,
        #[prost(message, optional, tag = "4")]
        pub(super) event: Option<Any>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct TaskExit {
        #[prost(string, tag = "1")]
        pub(super) container_id: String,
        /// The same as `container_id` for the container's main process, else of a command run in it.
        #[prost(string, tag = "2")]
        pub(super) id: String,
    }

    /// The end of a container's main process.
    pub(super) fn exit(envelope: Envelope) -> Option<RuntimeEvent> {
        let exit = TaskExit::decode(envelope.event?.value.as_slice()).ok()?;
        (exit.id == exit.container_id).then_some(RuntimeEvent { id: exit.container_id, pod_uid: None })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_end_of_a_main_process_counts() {
            let envelope = |id: &str| {
                let exit = TaskExit { container_id: "c".into(), id: id.into() };
                let event =
                    Any { type_url: "containerd.events.TaskExit".into(), value: exit.encode_to_vec() };
                Envelope { topic: "/tasks/exit".into(), event: Some(event) }
            };
            assert_eq!(exit(envelope("c")).map(|event| event.id), Some("c".into()));
            assert_eq!(exit(envelope("exec-1")), None);
        }
    }
}
