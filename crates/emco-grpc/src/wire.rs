//! Between gRPC over HTTP/2 and functions of messages: the server's half, and single calls of the client's.

use std::{future::Future, pin::Pin, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use futures::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Status, Streaming, server::Grpc, transport::Channel};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Most bytes of a request: names and numbers.
const REQUEST_LIMIT: usize = 1 << 20;
/// Most bytes of an answer: a status may tell of many resources.
const ANSWER_LIMIT: usize = 64 << 20;

/// The answers of a stream.
pub(crate) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// Answers a call with one question and one answer. What was begun is carried through even if the caller goes away: an installation
/// must not stop half-way because a connection broke.
pub(crate) async fn unary<Q, A, F, Fut>(request: Request, call: F) -> Response
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    let service = service_fn(move |question: tonic::Request<Q>| {
        let answer = tokio::spawn(call(question.into_inner()));
        async move {
            let answer = answer.await.map_err(|_| Status::internal("the call ended early"))?;
            answer.map(tonic::Response::new)
        }
    });
    let mut grpc = grpc::<A, Q>();
    grpc.unary(service, request).await.map(Body::new)
}

/// Answers a call with one question and a stream of answers, which ends when the caller goes away.
pub(crate) async fn answer_stream<Q, A, F, Fut>(request: Request, call: F) -> Response
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answers<A>, Status>> + Send + 'static,
{
    let service = service_fn(move |question: tonic::Request<Q>| {
        let answers = call(question.into_inner());
        async move { answers.await.map(tonic::Response::new) }
    });
    let mut grpc = grpc::<A, Q>();
    grpc.server_streaming(service, request).await.map(Body::new)
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

/// Calls a method that gives one answer. The deadline is told to the server, which may stop there; keeping it is the caller's part.
pub(crate) async fn ask<Q, A>(
    channel: Channel,
    path: &'static str,
    question: Q,
    limit: Duration,
) -> Result<A, Status>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?;
    let mut request = tonic::Request::new(question);
    request.set_timeout(limit);
    let answer =
        client.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await?;
    Ok(answer.into_inner())
}

/// Calls a method that gives a stream of answers. Servers may let the first answer wait, and with it this function.
pub(crate) async fn ask_stream<Q, A>(
    channel: Channel,
    path: &'static str,
    question: Q,
) -> Result<Streaming<A>, Status>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let answers = client
        .server_streaming(tonic::Request::new(question), PathAndQuery::from_static(path), codec)
        .await?;
    Ok(answers.into_inner())
}

async fn ready(channel: Channel) -> Result<tonic::client::Grpc<Channel>, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(ANSWER_LIMIT);
    client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(client)
}
