//! The API server, and its HTTPS port, which other front ends share.

use std::{net::SocketAddr, path::Path, pin::Pin, sync::Arc};

use axum::{Router, http::request::Parts};
use drystone_api::{GROUP, SYSTEM_NAMESPACE, custom_resource_definitions};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_fabric::{
    addresses::AddressDaemon,
    http::{Authorize, Denied},
};
use drystone_identity::{
    PrivateKey, UserInfo,
    authn::{Authentication, PasswordHash, Passwords, ServiceAccountIssuer},
    rbac::{Attributes, ResourceAttributes},
    tls::{ServerIdentity, server_config},
};
use drystone_images::Images;
use drystone_metal::agent::AgentDesk;
use drystone_sealing::SealedStore;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{UpArgs, archives::Archives, emco, emco_grpc, nfv, pki::Keys, redfish::Redfish, seal};
use crate::command::Failure;

/// How long definitions may take to be served.
const ESTABLISH_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A running API server.
pub(crate) struct Server {
    pub(crate) api: ApiServer,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it listens in plain text, if it does.
    pub(crate) plain_address: Option<SocketAddr>,
    /// Its certificate.
    pub(crate) identity: Arc<ServerIdentity>,
    /// Where the Redfish service is mounted.
    pub(crate) redfish: Redfish,
    /// Where the SOL003 service is mounted.
    pub(crate) nfv: nfv::Mount,
    /// Where EMCO's REST interface is mounted.
    pub(crate) emco: emco::Mount,
    /// Where EMCO's gRPC services are mounted.
    pub(crate) emco_grpc: emco_grpc::Mount,
    /// Where agents on hosts report.
    pub(crate) agents: AgentDesk,
    /// The image store.
    pub(crate) images: Images,
    /// Image archives of the command line.
    pub(crate) archives: Archives,
    serving: Vec<JoinHandle<()>>,
}

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The HTTPS port.
    pub(crate) secure: SocketAddr,
    /// The plain-text port, on a loopback address.
    pub(crate) plain: Option<SocketAddr>,
    /// Requests without credentials on the plain-text port act as the administrator.
    pub(crate) trust_plain: bool,
}

impl Server {
    /// A client in this process, with all rights, without a socket.
    pub(crate) fn client(&self) -> Client {
        let user = UserInfo::new("system:drystone", ["system:masters"]);
        Client::new(self.api.service_as(user), "default")
    }

    /// Lets requests finish, then closes the store.
    pub(crate) async fn stop(self) {
        self.api.shutdown().await;
        for port in self.serving {
            if let Err(error) = port.await {
                tracing::warn!("a port ended badly: {error}");
            }
        }
    }
}

/// Starts the server over a store, listens. Images and keys are kept in `data`.
pub(crate) async fn start(
    keys: &Keys,
    store: Arc<SealedStore>,
    contexts: Option<Arc<SealedStore>>,
    data: &Path,
    ports: Ports,
    args: &UpArgs,
) -> Result<Server, Failure> {
    let listener = listen(ports.secure, "--listen").await?;
    let plain = match ports.plain {
        Some(address) => Some(listen(address, "--http").await?),
        None => None,
    };
    let address = listener.local_addr()?;
    let passwords = Passwords::new().with("admin", PasswordHash::of(&keys.admin_password)?, administrator());
    let issuer = format!("https://{address}");
    let mut config = Config::new(Profile::Management, Arc::clone(&store) as _);
    config.authentication = Authentication::new().with(passwords);
    config.service_account_issuer = Some(Arc::new(ServiceAccountIssuer::new(
        issuer.clone(),
        vec![issuer],
        PrivateKey::from_pem(keys.service_account_key.expose())?,
    )?));
    config.certificate_authority = Some(keys.authority.clone());
    config.root_certificates = Some(keys.authority.certificate_pem());
    let api = ApiServer::new(config).await?;
    let identity = ServerIdentity::new(&keys.server)?;
    let tls = server_config(Arc::clone(&identity), Some(&keys.authority.certificate_pem()))?;
    let client = Client::new(api.service_as(UserInfo::new("system:drystone", ["system:masters"])), "default");
    let agents = args.agents.clone().desk(client.clone(), keys, address);
    let addresses =
        drystone_fabric::http::router(AddressDaemon::new(client.clone()), Arc::new(ByPolicy(api.clone())));
    let join = super::join::router(client, keys, data);
    let redfish = Redfish::default();
    let nfv = nfv::Mount::default();
    let (emco, emco_grpc) = (emco::Mount::default(), emco_grpc::Mount::default());
    let (images, agent) = super::images::open(&data.join("images"), &api, keys, address)?;
    let router = api.router_with_fallback().merge(addresses).merge(redfish.router()).merge(agent).merge(join);
    let router = router.merge(seal::router(api.clone(), store, contexts));
    let files = args.image_archive.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
    let archives = Archives::new(files, &keys.boot_secret);
    let router = router.merge(agents.router()).merge(archives.router()).merge(nfv.router());
    let router = router.merge(emco.router()).merge(emco_grpc.router());
    let mut serving = Vec::new();
    let plain_address = plain.as_ref().map(TcpListener::local_addr).transpose()?;
    if let Some(listener) = plain {
        serving.push(serve_plain(&api, listener, router.clone(), ports.trust_plain)?);
    }
    let stopping = api.stopping();
    serving.push(tokio::spawn(async move {
        if let Err(error) = drystone_apiserver::serve_tls(listener, tls, router, stopping).await {
            tracing::error!("serving HTTPS: {error}");
        }
    }));
    Ok(Server {
        api,
        address,
        plain_address,
        identity,
        redfish,
        nfv,
        emco,
        emco_grpc,
        agents,
        images,
        archives,
        serving,
    })
}

/// Listens; `option` is how the user says where.
pub(crate) async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        format!("listening on {address}: {error}; give another address with {option}").into()
    })
}

/// Who knows the administrator's password, or needs none.
fn administrator() -> UserInfo {
    UserInfo::new("admin", ["system:masters"])
}

/// Serves the same in plain text to programs of this machine.
fn serve_plain(
    api: &ApiServer,
    listener: TcpListener,
    router: Router,
    trust: bool,
) -> Result<JoinHandle<()>, Failure> {
    let address = listener.local_addr()?;
    let router = if trust {
        tracing::warn!(
            "every program of this machine is administrator at http://{address}, without credentials: --http-trust-loopback is \
             for development"
        );
        drystone_apiserver::trust_clients(router, administrator())
    } else {
        router
    };
    let stopping = api.stopping();
    Ok(tokio::spawn(async move {
        if let Err(error) = drystone_apiserver::serve_plain(listener, router, stopping).await {
            tracing::error!("serving HTTP: {error}");
        }
    }))
}

/// The address daemon's front door: the API server's own authentication and access policy.
struct ByPolicy(ApiServer);

impl Authorize for ByPolicy {
    fn authorize<'a>(
        &'a self,
        request: &'a Parts,
        namespace: &'a str,
        pool: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>> {
        Box::pin(async move {
            let user = self.0.authenticate(request).await.map_err(|_| Denied::Unauthenticated)?;
            if user.name == UserInfo::anonymous().name {
                return Err(Denied::Unauthenticated);
            }
            let resource = ResourceAttributes {
                group: GROUP,
                resource: "addresspools",
                subresource: "blocks",
                namespace,
                name: pool,
                ..ResourceAttributes::default()
            };
            let attributes = Attributes::resource(&user, "update", resource);
            let decision = self.0.authorize(&attributes);
            if decision.allowed { Ok(()) } else { Err(Denied::Forbidden(attributes.to_string())) }
        })
    }
}

/// Serves Drystone's kinds, and makes the namespace for what belongs to no tenant.
pub(crate) async fn install_definitions(client: &Client) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in custom_resource_definitions() {
        let name = definition.name_any();
        definitions
            .patch(&name, &PatchParams::apply("drystone-up").force(), &Patch::Apply(&definition))
            .await?;
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISH_LIMIT, established).await.map_err(|_| {
            format!("definition {name} was not established within {} s", ESTABLISH_LIMIT.as_secs())
        })??;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..Default::default() },
        ..Default::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
