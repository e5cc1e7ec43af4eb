//! Setting the first control plane up, and letting other hosts join.

use std::{io::Cursor, net::IpAddr, time::Duration};

use drystone_api::{Cluster, ClusterSpec, Distribution, MemberRole, ScriptRuns};
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::Redaction;
use rand::Rng as _;

use super::{
    super::{
        kubeadm,
        reach::{self, Reached, failure},
        script::{self, MAX_INVITATION_BYTES, ScriptAction},
        uid,
    },
    facts,
    parameters::InstallParameters,
    program::Program,
};
use crate::{
    model::Names,
    steps::{StepDependencies, objects::subject},
};

/// How long a host that was reached before may take to be reached again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a file may take to be written.
const FILE_LIMIT: Duration = Duration::from_secs(300);

/// Sets the first control plane up; or all hosts, if the user's program runs once.
pub struct InstallFirst(pub(super) StepDependencies);

impl Action for InstallFirst {
    const NAME: &'static str = "cluster.install-first";
    type Parameters = InstallParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        let (cluster, names) = subject(context).await?;
        let host = reach::connect(context, &cluster, &names, &parameters.host, PATIENCE).await?;
        if cluster.spec.distribution == Distribution::Script {
            let once = script::settings(&cluster.spec).runs == ScriptRuns::Once;
            let work = Work { dependencies: &self.0, context, cluster: &cluster, names: &names, once };
            return work.run(&host, &parameters, ScriptAction::Install, None).await.map(drop);
        }
        let places = facts::places(context, &cluster, &names).await?;
        let about = facts::host_facts(&cluster, &places, &parameters.host, host.address);
        let token = new_token();
        let spec = with_version(context, &cluster, &parameters, &host).await?;
        let configuration = kubeadm::init_configuration(&spec, &names.cluster, &about, &token);
        let redaction = Redaction::new(host.secrets.iter().cloned().chain([token]));
        Program::new(format!("kubeadm init on {}", parameters.host), kubeadm::init())
            .environment("DRYSTONE_CLUSTER_UID", uid(&cluster))
            .input(configuration)
            .run(context, &host, &redaction)
            .await?;
        Ok(())
    }
}

/// The specification with the version that kubeadm itself has, if none is given: otherwise kubeadm would ask the internet.
async fn with_version(
    context: &StepContext,
    cluster: &Cluster,
    parameters: &InstallParameters,
    host: &Reached,
) -> Result<ClusterSpec, StepError> {
    let mut spec = cluster.spec.clone();
    let mut settings = spec.kubeadm.take().unwrap_or_default();
    if settings.version.is_empty() {
        let asked =
            Program::new(format!("asking kubeadm on {}", parameters.host), "kubeadm version -o short")
                .limit(Duration::from_secs(60))
                .run(context, host, &Redaction::new(host.secrets.clone()))
                .await?;
        settings.version = asked.stdout.text();
    }
    spec.kubeadm = Some(settings);
    Ok(spec)
}

/// A bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`.
fn new_token() -> Hidden {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    let mut text = |length: usize| -> String {
        (0..length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
    };
    Hidden::new(format!("{}.{}", text(6), text(16)))
}

/// Lets a host join: a control plane that works invites it, and the invitation goes to that host only and is taken back.
pub struct JoinHost(pub(super) StepDependencies);

impl Action for JoinHost {
    const NAME: &'static str = "cluster.join-host";
    type Parameters = InstallParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: InstallParameters) -> Result<(), StepError> {
        let (cluster, names) = subject(context).await?;
        let via = reach::connect(context, &cluster, &names, &parameters.via, PATIENCE).await?;
        let host = reach::connect(context, &cluster, &names, &parameters.host, PATIENCE).await?;
        if cluster.spec.distribution == Distribution::Script {
            let work = Work { dependencies: &self.0, context, cluster: &cluster, names: &names, once: false };
            return work.join(&via, &host, &parameters).await;
        }
        join_by_kubeadm(context, &cluster, &names, &parameters, &via, &host).await
    }
}

async fn join_by_kubeadm(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    parameters: &InstallParameters,
    via: &Reached,
    host: &Reached,
) -> Result<(), StepError> {
    let control_plane = parameters.role == MemberRole::ControlPlane;
    let invited = Program::new(format!("inviting {}", parameters.host), kubeadm::invite(control_plane))
        .environment("DRYSTONE_FOR_HOST", parameters.host.clone())
        .quiet()
        .limit(Duration::from_secs(180))
        .run(context, via, &Redaction::new(via.secrets.clone()))
        .await?;
    let invitation =
        kubeadm::read_invitation(&invited.stdout.text(), control_plane).map_err(StepError::transient)?;
    let places = facts::places(context, cluster, names).await?;
    let about = facts::host_facts(cluster, &places, &parameters.host, host.address);
    let configuration = kubeadm::join_configuration(&cluster.spec, &about, &invitation);
    let secrets =
        host.secrets.iter().cloned().chain([invitation.token.clone()]).chain(invitation.certificate_key);
    let redaction = Redaction::new(secrets);
    let joined = Program::new(format!("kubeadm join on {}", parameters.host), kubeadm::join(control_plane))
        .environment("DRYSTONE_CLUSTER_UID", uid(cluster))
        .input(configuration)
        .run(context, host, &redaction)
        .await;
    // Whether it worked or not, nobody else may use it. If this fails, it ends by itself soon.
    let id = invitation.token.expose().split('.').next().unwrap_or_default().to_owned();
    let withdrawn = Program::new("taking the invitation back", kubeadm::withdraw(control_plane))
        .environment("DRYSTONE_TOKEN_ID", id)
        .limit(Duration::from_secs(60))
        .run(context, via, &redaction)
        .await;
    if let Err(error) = withdrawn {
        context.log(format!("the invitation could not be taken back, it ends in 15 minutes: {error}"));
    }
    joined.map(drop)
}

/// A run of the user's program.
pub(super) struct Work<'a> {
    pub(super) dependencies: &'a StepDependencies,
    pub(super) context: &'a StepContext,
    pub(super) cluster: &'a Cluster,
    pub(super) names: &'a Names,
    pub(super) once: bool,
}

impl Work<'_> {
    async fn join(
        &self,
        via: &Reached,
        host: &Reached,
        parameters: &InstallParameters,
    ) -> Result<(), StepError> {
        let inviting = InstallParameters {
            host: parameters.via.clone(),
            role: MemberRole::ControlPlane,
            ..Default::default()
        };
        let guest = Some((parameters.host.as_str(), parameters.role, host.address));
        let invitation = self.invite(via, &inviting, guest).await?;
        self.run(host, parameters, ScriptAction::Join, Some(invitation)).await
    }

    async fn invite(
        &self,
        via: &Reached,
        parameters: &InstallParameters,
        guest: Option<(&str, MemberRole, IpAddr)>,
    ) -> Result<Hidden, StepError> {
        self.deliver(via, parameters).await?;
        let mut program = self.program(via, parameters, ScriptAction::Invite).await?.quiet();
        if let Some((name, role, address)) = guest {
            program = program
                .environment("DRYSTONE_FOR_HOST", name)
                .environment("DRYSTONE_FOR_ROLE", script::role_name(role))
                .environment("DRYSTONE_FOR_ADDRESS", address.to_string());
        }
        let redaction = self.redaction(via, &program);
        let outcome = program.run(self.context, via, &redaction).await?;
        let text = outcome.stdout.bytes();
        if outcome.stdout.omitted() > 0 || text.len() > MAX_INVITATION_BYTES {
            let why = format!("`invite` printed more than {MAX_INVITATION_BYTES} bytes");
            return Err(StepError::permanent(why));
        }
        String::from_utf8(text)
            .map(Hidden::new)
            .map_err(|_| StepError::permanent("`invite` printed no UTF-8"))
    }

    /// Runs the program for an action.
    pub(super) async fn run(
        &self,
        host: &Reached,
        parameters: &InstallParameters,
        action: ScriptAction,
        invitation: Option<Hidden>,
    ) -> Result<(), StepError> {
        self.deliver(host, parameters).await?;
        let mut program = self.program(host, parameters, action).await?;
        let mut redaction = self.redaction(host, &program);
        if let Some(invitation) = invitation {
            let known = program.environment.iter().map(|(_, value)| value.clone());
            redaction = Redaction::new(known.chain(host.secrets.iter().cloned()).chain([invitation.clone()]));
            program = program.input(invitation);
        }
        program.run(self.context, host, &redaction).await.map(drop)
    }

    /// What the user's Secrets say must not be shown; names and addresses may.
    fn redaction(&self, host: &Reached, program: &Program) -> Redaction {
        let plain = &script::settings(&self.cluster.spec).environment;
        let secret = program
            .environment
            .iter()
            .filter(|(name, _)| !name.starts_with("DRYSTONE_") && !plain.contains_key(name))
            .map(|(_, value)| value.clone());
        Redaction::new(secret.chain(host.secrets.iter().cloned()))
    }

    async fn program(
        &self,
        host: &Reached,
        parameters: &InstallParameters,
        action: ScriptAction,
    ) -> Result<Program, StepError> {
        let places = facts::places(self.context, self.cluster, self.names).await?;
        let environment =
            facts::environment(self.context, self.cluster, self.names, parameters, &places, host.address)
                .await?;
        let settings = script::settings(&self.cluster.spec);
        let limit = Duration::from_secs(u64::from(settings.timeout_seconds.unwrap_or(1800)));
        let doing = format!("{} on {}", action.name(), parameters.host);
        let mut program = Program::new(doing, script::run_program(action, self.once)).limit(limit);
        program.environment = environment;
        Ok(program)
    }

    /// Brings the program and what it is told onto the host, unless that is another cluster's.
    async fn deliver(&self, host: &Reached, parameters: &InstallParameters) -> Result<(), StepError> {
        self.check_owner(host, parameters).await?;
        let places = facts::places(self.context, self.cluster, self.names).await?;
        let first =
            places.iter().find(|place| place.role == MemberRole::ControlPlane && place.state == "wanted");
        let first = first.and_then(|place| place.address).unwrap_or(host.address);
        let (inventory, daemon) =
            facts::inventory(self.context, self.dependencies, self.cluster, self.names, &places, first)
                .await?;
        let inventory = serde_json::to_vec_pretty(&inventory).map_err(StepError::permanent)?;
        self.write(host, "inventory.json", 0o600, inventory).await?;
        if let Some((token, authority)) = daemon {
            self.write(host, "address-daemon-token", 0o600, token.expose().as_bytes().to_vec()).await?;
            self.write(host, "address-daemon-ca.crt", 0o644, authority.into_bytes()).await?;
        }
        match facts::program(self.context, self.cluster, self.names).await? {
            Some(bytes) => self.write(host, "program", 0o700, bytes).await,
            None => {
                let settings = script::settings(&self.cluster.spec);
                let doing = format!("fetching the program onto {}", parameters.host);
                let fetch =
                    Program::new(doing, script::fetch_program(&settings)).limit(Duration::from_secs(900));
                fetch.run(self.context, host, &Redaction::new(host.secrets.clone())).await.map(drop)
            }
        }
    }

    /// Whether the host is free or ours; permanent if it is another cluster's.
    pub(super) async fn check_owner(
        &self,
        host: &Reached,
        parameters: &InstallParameters,
    ) -> Result<(), StepError> {
        Program::new(format!("looking at {}", parameters.host), script::look_at_owner())
            .environment("DRYSTONE_CLUSTER_UID", uid(self.cluster))
            .limit(Duration::from_secs(60))
            .run(self.context, host, &Redaction::new(host.secrets.clone()))
            .await
            .map(drop)
    }

    async fn write(&self, host: &Reached, name: &str, mode: u32, bytes: Vec<u8>) -> Result<(), StepError> {
        let path = format!("{}/{name}", script::DIRECTORY);
        let upload = host.session.upload(&path, mode, Cursor::new(bytes), host.privilege.clone(), FILE_LIMIT);
        self.context.wait_for(upload).await?.map(drop).map_err(|error| failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubeadms_form() {
        let token = new_token();
        let (id, secret) = token.expose().split_once('.').expect("two parts");
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert_ne!(new_token(), token);
        let shown = Redaction::default().line(&format!("--token {}", token.expose()));
        assert_eq!(shown, "--token [redacted]");
    }
}
