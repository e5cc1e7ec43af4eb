//! Between gRPC over HTTP/2 and functions of messages.

use std::{future::Future, pin::Pin};

use axum::{body::Body, extract::Request, response::Response};
use futures::Stream;
use prost::Message;
use tonic::{Status, Streaming, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Most bytes of a request; etcd takes 1.5 MiB, and clients may raise that.
const REQUEST_LIMIT: usize = 16 << 20;
/// Most bytes of an answer: ranges are not cut into pieces.
const ANSWER_LIMIT: usize = 1 << 30;

/// The answers of a stream.
pub(crate) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// Answers a call with one question and one answer.
pub(crate) async fn unary<Q, A, F, Fut>(request: Request, call: F) -> Response
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    let service = service_fn(move |question: tonic::Request<Q>| {
        let answer = call(question.into_inner());
        async move { answer.await.map(tonic::Response::new) }
    });
    let mut grpc = grpc::<A, Q>();
    grpc.unary(service, request).await.map(Body::new)
}

/// Answers a stream of questions with a stream of answers.
pub(crate) async fn streaming<Q, A, F>(request: Request, call: F) -> Response
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Streaming<Q>) -> Answers<A> + Send + Sync + 'static,
{
    let service = service_fn(move |questions: tonic::Request<Streaming<Q>>| {
        let answers = call(questions.into_inner());
        async move { Ok::<_, Status>(tonic::Response::new(answers)) }
    });
    let mut grpc = grpc::<A, Q>();
    grpc.streaming(service, request).await.map(Body::new)
}

/// Answers without having read the question.
pub(crate) fn refuse(status: Status) -> Response {
    status.into_http::<tonic::body::Body>().map(Body::new)
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(REQUEST_LIMIT), Some(ANSWER_LIMIT))
}
