//! The driver of OpenStack alone: a stack made, waited for, and read.

use std::time::{Duration, Instant};

use drystone_openstack::{Access, Action, Heat, Keystone, Naming, NewStack, StackRef};
use serde_json::json;

use super::{latency, own};
use crate::{
    Failure,
    drystone::PATIENCE,
    report::{Report, Row},
    statistics::Sorted,
};

/// The stack of the package that is measured, as a manager would make it.
pub(super) fn stack(name: String) -> Result<NewStack, Failure> {
    let server = json!({"computeFlavourId": "m1.tiny", "vcImageId": "measured-image", "desired_capacity": 1});
    let parameters = json!({"nfv": {"VDU": {"web": server, "db": server}}});
    let read = |path: &str| std::fs::read_to_string(own("vnf/package/BaseHOT/small").join(path));
    Ok(NewStack {
        name,
        template: read("measured.yaml")?,
        files: [("web.yaml".to_owned(), read("nested/web.yaml")?)].into(),
        parameters: parameters.as_object().cloned().unwrap_or_default(),
        ..NewStack::default()
    })
}

/// A client of a cloud.
pub(super) fn heat(auth_url: &str, password: &str) -> Result<Heat, Failure> {
    Ok(Heat::new(Keystone::new(Access::new(auth_url, "nfv_user", password.into(), "nfv"))?))
}

/// Makes a stack and reads what is in it; how long that took.
pub(super) async fn make(heat: &Heat, stack: &NewStack) -> Result<(StackRef, Duration), Failure> {
    let began = Instant::now();
    let made = heat.create(stack, "bench").await?.stack;
    heat.wait(&made, Action::Create, PATIENCE, &mut |_| ()).await?;
    let inventory = heat.inventory(&made, &Naming::default()).await?;
    let took = began.elapsed();
    if inventory.servers.len() != 2 {
        return Err(format!("{made}: {} servers", inventory.servers.len()).into());
    }
    Ok((made, took))
}

/// Takes a stack away.
pub(super) async fn take_away(heat: &Heat, stack: &StackRef) -> Result<(), Failure> {
    heat.delete(stack).await?;
    heat.wait(stack, Action::Delete, PATIENCE, &mut |_| ()).await?;
    Ok(())
}

/// Measures it on the cloud that answers at once.
pub(super) async fn measure(
    auth_url: &str,
    password: &str,
    count: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let heat = heat(auth_url, password)?;
    let mut took = Vec::new();
    // The first one opens the connection and asks for the token.
    for number in 0..=count {
        let (made, duration) = make(&heat, &stack(format!("driver-{number}"))?).await?;
        if number > 0 {
            took.push(duration);
        }
        take_away(&heat, &made).await?;
    }
    let what = "the driver alone: a stack made, waited for, read".to_owned();
    report.add(Row { what, ours: latency(&Sorted::new(took)), ..Row::default() });
    Ok(())
}
