//! Against a real Keystone and Heat: what a manager adds to Heat's own time, and the tokens that it takes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use drystone_openstack::{Access, Heat, Keystone, NewStack, State};
use serde_json::json;

use super::{
    Managers,
    client::{Cloud, Manager, Operation},
    own,
    peers::OpenStack,
};
use crate::{
    Failure,
    drystone::PATIENCE,
    report::{Report, Row},
    statistics::Sorted,
};

const PASSWORD: &str = "devstack-secret";

/// How often each is measured.
const TIMES: usize = 5;

/// How often Heat is looked at while its own time is measured.
const INTERVAL: Duration = Duration::from_millis(50);

/// Measures it.
pub(super) async fn measure(managers: &Managers, report: &mut Report, scratch: &Path) -> Result<(), Failure> {
    let Some(openstack) = OpenStack::start(scratch).await? else {
        report.say("a real Keystone and Heat are left out; `./dev bench vnf` installs them");
        return Ok(());
    };
    let bare = bare(&openstack).await?;
    let cloud = Cloud::new(&openstack.auth_url, PASSWORD);
    let ours = managed(&managers.ours, &openstack, &cloud).await?;
    let peer = match &managers.peer {
        Some(peer) => Some(managed(peer, &openstack, &cloud).await?),
        None => None,
    };
    let shown = |(took, tokens): &(Sorted, usize)| {
        let over = took.median().saturating_sub(bare.median()).as_secs_f64();
        let each = *tokens / TIMES;
        format!("{:.2} s, {over:.2} s more than Heat alone, tokens {each}", took.median().as_secs_f64())
    };
    report.add(Row {
        what: format!(
            "instantiate, real Keystone and Heat (Heat alone {:.2} s)",
            bare.median().as_secs_f64()
        ),
        ours: shown(&ours),
        peer: peer.as_ref().map(shown).unwrap_or_default(),
        earlier: "9.9 to 10.8 s, Heat alone 5.8 s, tokens 12 (Tacker 16)",
    });
    Ok(())
}

/// The same stack without a manager.
async fn bare(openstack: &OpenStack) -> Result<Sorted, Failure> {
    let access = Access::new(&openstack.auth_url, "nfv_user", PASSWORD.into(), "nfv");
    let heat = Heat::new(Keystone::new(access)?);
    let server = json!({"computeFlavourId": "m1.tiny", "vcImageId": "measured-image", "desired_capacity": 1});
    let parameters = json!({"nfv": {"VDU": {"web": server, "db": server}}});
    let parameters = parameters.as_object().cloned().unwrap_or_default();
    let read = |path: &str| std::fs::read_to_string(own("vnf/package/BaseHOT/small").join(path));
    let mut took = Vec::new();
    // The first one fills Heat's caches.
    for number in 0..=TIMES {
        let stack = NewStack {
            name: format!("bare-{number}"),
            template: read("measured.yaml")?,
            files: [("web.yaml".to_owned(), read("nested/web.yaml")?)].into(),
            parameters: parameters.clone(),
            ..NewStack::default()
        };
        let began = Instant::now();
        let made = heat.create(&stack, "bench").await?.stack;
        loop {
            let shown = heat.stack(&made).await?;
            match shown.state {
                State::Complete => break,
                State::Init | State::InProgress if began.elapsed() < PATIENCE => {}
                _ => return Err(format!("{}: {}", shown.status, shown.reason).into()),
            }
            tokio::time::sleep(INTERVAL).await;
        }
        if number > 0 {
            took.push(began.elapsed());
        }
        heat.delete(&made).await?;
        heat.wait(&made, drystone_openstack::Action::Delete, PATIENCE, &mut |_| ()).await?;
    }
    Ok(Sorted::new(took))
}

/// How long a manager takes, and the tokens that were asked for.
async fn managed(
    manager: &Manager,
    openstack: &OpenStack,
    cloud: &Cloud,
) -> Result<(Sorted, usize), Failure> {
    let before = openstack.tokens()?;
    let mut instances = Vec::new();
    let mut took = Vec::new();
    for number in 0..TIMES {
        let instance = manager.create(&format!("real-{number}")).await?;
        took.push(manager.carry_out(&instance, Operation::Instantiate, cloud).await?);
        instances.push(instance);
    }
    let tokens = openstack.tokens()? - before;
    for instance in instances {
        manager.carry_out(&instance, Operation::Terminate, cloud).await?;
        manager.delete(&instance).await?;
    }
    Ok((Sorted::new(took), tokens))
}
