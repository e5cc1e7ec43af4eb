//! A second cluster on the same fabrics: neither hears the other.

use super::{Inside, Report, Stage, compose::follow, items, text};
use crate::command::Failure;

/// A pod on the node's own network: what it sends is what its host sends.
const ON_HOST: &str = r#"{"spec": {"hostNetwork": true, "tolerations": [{"operator": "Exists"}]}}"#;

/// Composes a second cluster and tries to get from one to the other, both ways; within each, the same way works.
pub(super) async fn second_cluster(
    stage: &Stage,
    report: &mut Report,
    first: &Inside,
) -> Result<(), Failure> {
    let began = report.begin("A second cluster beside it: packets that must not arrive");
    let file = stage.examples.join("edge/cluster.yaml");
    report.line(&stage.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    let second = follow(stage, report, "retail", "edge").await?;
    for (name, cluster) in [("mlops", first), ("edge", &second)] {
        let image = "--image=drystone.dev/hello:1";
        let overrides = format!("--overrides={ON_HOST}");
        cluster.kubectl(stage, &["run", "on-host", image, &overrides]).await?;
        cluster.kubectl(stage, &["wait", "--for=condition=Ready", "pod/on-host", "--timeout=120s"]).await?;
        report.line(&format!("{name}: a program on a worker's own network serves on port 8080"));
    }
    let mut tried = 0;
    for (from, to) in [(first, &second), (&second, first)] {
        for address in addresses(stage, to).await? {
            must_not_arrive(stage, report, from, &address).await?;
            tried += 1;
        }
        for address in addresses(stage, from).await? {
            from.kubectl(stage, &["exec", "on-host", "--", "/hello", "fetch", &address, "/"]).await?;
            report.line(&format!("from the same cluster, {address} answers"));
        }
    }
    report.end("apart", began, format!("{tried} ways between two clusters, and none is open"));
    Ok(())
}

/// Where the cluster's host program listens.
async fn addresses(stage: &Stage, cluster: &Inside) -> Result<Vec<String>, Failure> {
    let pods = items(&cluster.json(stage, &["get", "pods", "-l", "run=on-host"]).await?);
    Ok(pods.iter().map(|pod| format!("{}:8080", text(pod, "/status/hostIP"))).collect())
}

async fn must_not_arrive(
    stage: &Stage,
    report: &Report,
    from: &Inside,
    address: &str,
) -> Result<(), Failure> {
    match from.kubectl(stage, &["exec", "on-host", "--", "/hello", "fetch", address, "/"]).await {
        Ok(answer) => Err(format!("{address} of the other cluster answered: {answer}").into()),
        Err(error) => {
            let error = error.to_string();
            // That the attempt was made, and what became of it, is what proves something.
            let line = error.lines().find(|line| line.starts_with("hello: ") || line.contains("hello: "));
            let line = line.ok_or_else(|| format!("the attempt could not be made: {error}"))?;
            report.line(&format!("from the other cluster, {line}"));
            Ok(())
        }
    }
}
