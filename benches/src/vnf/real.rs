//! Against a real Keystone and Heat: what a manager adds to Heat's own time, and the tokens that it takes.

use std::time::{Duration, Instant};

use drystone_openstack::{Heat, State};

use super::{
    Managers,
    client::{Cloud, Manager, Operation},
    driver,
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
pub(super) async fn measure(managers: &Managers, report: &mut Report) -> Result<(), Failure> {
    let Some(openstack) = OpenStack::start().await? else {
        report.say("a real Keystone and Heat are left out; `./dev bench vnf` installs them");
        return Ok(());
    };
    let heat = driver::heat(&openstack.auth_url, PASSWORD)?;
    let bare = bare(&heat).await?;
    let before = openstack.tokens()?;
    let fresh = driver::heat(&openstack.auth_url, PASSWORD)?;
    let mut took = Vec::new();
    for number in 0..TIMES {
        let (made, duration) = driver::make(&fresh, &driver::stack(format!("driver-{number}"))?).await?;
        took.push(duration);
        driver::take_away(&heat, &made).await?;
    }
    let driven = (Sorted::new(took), openstack.tokens()? - before);
    let cloud = Cloud::new(&openstack.auth_url, PASSWORD);
    let through = async |manager: &Option<Manager>| match manager {
        Some(manager) => managed(manager, &openstack, &cloud).await.map(Some),
        None => Ok(None),
    };
    let (ours, peer) = (through(&managers.ours).await?, through(&managers.peer).await?);
    let alone = bare.median().as_secs_f64();
    let shown = |(took, tokens): &(Sorted, usize)| {
        let median = took.median().as_secs_f64();
        format!("{median:.2} s, {:+.2} s beside Heat alone; tokens for {TIMES}: {tokens}", median - alone)
    };
    report.add(Row {
        what: format!("the driver alone, real Keystone and Heat (Heat alone {alone:.2} s)"),
        ours: shown(&driven),
        ..Row::default()
    });
    report.add(Row {
        what: format!("instantiate, real Keystone and Heat (Heat alone {alone:.2} s)"),
        ours: ours.as_ref().map(shown).unwrap_or_default(),
        peer: peer.as_ref().map(shown).unwrap_or_default(),
        earlier: "9.9 to 10.8 s, Heat alone 5.8 s, 12 tokens each (Tacker 16)",
    });
    Ok(())
}

/// The same stack without a manager, looked at all the time.
async fn bare(heat: &Heat) -> Result<Sorted, Failure> {
    let mut took = Vec::new();
    // The first one fills Heat's caches.
    for number in 0..=TIMES {
        let began = Instant::now();
        let made = heat.create(&driver::stack(format!("bare-{number}"))?, "bench").await?.stack;
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
        driver::take_away(heat, &made).await?;
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
