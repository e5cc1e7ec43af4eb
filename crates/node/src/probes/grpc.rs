//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`).

use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    /// 0 unknown, 1 serving, 2 not serving, 3 no such service.
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks whether a service is serving.
pub(super) async fn check(host: &str, port: u16, service: &str) -> Result<(), String> {
    let endpoint =
        Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("gRPC connection failed: {error}"))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| format!("gRPC connection failed: {error}"))?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    match grpc.unary(request, path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Ok(()),
        Ok(answer) => Err(format!("gRPC service is not serving: status {}", answer.get_ref().status)),
        Err(status) if status.code() == Code::Unimplemented => {
            Err("the server does not implement the gRPC health checking protocol".to_owned())
        }
        Err(status) => Err(format!("gRPC health check failed: {}", status.message())),
    }
}
