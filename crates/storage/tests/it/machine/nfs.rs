//! Exports: served by a real server, read and written by a real client.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command, time::Instant};

use drystone_storage::{
    Host,
    export::Export,
    server::{self, ServerKind},
    volume::{self, Volume},
};

use crate::host::{LONG, Machine, host, on_host, run};

const PROGRAMS: [&str; 4] = ["ganesha.nfsd", "nfs-ls", "nfs-cp", "nfs-cat"];

async fn serve(machine: &mut Machine, host: &Host<'_>, device: &str, folders: &[&str]) -> ServerKind {
    let _ = machine;
    let mount = "/mnt/volume".to_owned();
    let wanted = Volume { device: device.parse().unwrap(), mount_to: mount.clone() };
    volume::prepare(host, &wanted).await.unwrap();
    let kind = server::install(host).await.unwrap();
    let exports: Vec<Export> =
        folders.iter().map(|folder| Export::parse(folder, "127.0.0.0/8").unwrap()).collect();
    server::export(host, kind, &[mount], &exports).await.unwrap();
    kind
}

fn client(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let failed = || format!("{text} {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(failed()) }
}

fn url(path: &str) -> String {
    format!("nfs://127.0.0.1{path}?version=4")
}

/// Asks until the answer is as wanted: a server takes a moment to read its exports anew.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[test]
fn exports_are_served_and_outlive_the_server() {
    on_host(&PROGRAMS, async |machine| {
        let device = machine.device(64);
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let kind = serve(machine, &host, &device, &["/mnt/volume/nfs/pv1"]).await;
        assert_eq!(
            kind == ServerKind::Kernel,
            fs::read_to_string("/proc/filesystems").unwrap().contains("nfsd")
        );
        assert_eq!(fs::metadata("/mnt/volume/nfs/pv1").unwrap().uid(), 65534);
        fs::write("/mnt/source", "by way of NFS").unwrap();
        client("nfs-cp", &["/mnt/source", &url("/mnt/volume/nfs/pv1/file")]).unwrap();
        assert_eq!(fs::read_to_string("/mnt/volume/nfs/pv1/file").unwrap(), "by way of NFS");
        assert_eq!(
            fs::metadata("/mnt/volume/nfs/pv1/file").unwrap().uid(),
            65534,
            "whoever writes is nobody"
        );
        // Repeated, with one more and one less.
        let pid = fs::read_to_string("/run/drystone-nfs.pid").unwrap_or_default();
        serve(machine, &host, &device, &["/mnt/volume/nfs/pv1"]).await;
        let same = fs::read_to_string("/run/drystone-nfs.pid").unwrap_or_default();
        assert_eq!(same, pid, "nothing changed, so it was not started again");
        serve(machine, &host, &device, &["/mnt/volume/nfs/pv1", "/mnt/volume/nfs/pv2"]).await;
        eventually("pv2 is served", || client("nfs-ls", &[&url("/mnt/volume/nfs/pv2")]).is_ok()).await;
        serve(machine, &host, &device, &["/mnt/volume/nfs/pv2"]).await;
        eventually("pv1 is not served", || client("nfs-cat", &[&url("/mnt/volume/nfs/pv1/file")]).is_err())
            .await;
        // Another server with the same volume.
        if kind == ServerKind::Ganesha {
            let pid = fs::read_to_string("/run/drystone-nfs.pid").unwrap();
            run("kill", &["-KILL", pid.trim()]);
        }
        eventually("the volume is free", || {
            Command::new("umount").arg("/mnt/volume").status().unwrap().success()
        })
        .await;
        for folder in ["/etc/drystone", "/var/lib/drystone"] {
            let _ = fs::remove_dir_all(folder);
        }
        serve(machine, &host, &device, &["/mnt/volume/nfs/pv1"]).await;
        eventually("the file is read", || {
            client("nfs-cat", &[&url("/mnt/volume/nfs/pv1/file")]).is_ok_and(|text| text == "by way of NFS")
        })
        .await;
    });
}

#[test]
fn a_link_on_the_volume_leads_nobody_elsewhere() {
    on_host(&[], async |machine| {
        let device = machine.device(48);
        let session = machine.connect().await;
        let host = host(&session, &|_| {});
        let mount = "/mnt/volume".to_owned();
        let wanted = Volume { device: device.parse().unwrap(), mount_to: mount.clone() };
        volume::prepare(&host, &wanted).await.unwrap();
        std::os::unix::fs::symlink("/etc", "/mnt/volume/pv1").unwrap();
        let before = fs::metadata("/etc").unwrap().uid();
        for folder in ["/mnt/volume/pv1", "/mnt/volume/pv1/ssh"] {
            let exports = [Export::parse(folder, "127.0.0.0/8").unwrap()];
            let error = server::export(&host, ServerKind::Ganesha, std::slice::from_ref(&mount), &exports)
                .await
                .unwrap_err();
            assert!(error.is_permanent() && error.to_string().contains("by a link"), "{error}");
        }
        assert_eq!(fs::metadata("/etc").unwrap().uid(), before);
        // Without its volume nothing is exported.
        fs::remove_file("/mnt/volume/pv1").unwrap();
        run("umount", &["/mnt/volume"]);
        let exports = [Export::parse("/mnt/volume/pv1", "127.0.0.0/8").unwrap()];
        let error = server::export(&host, ServerKind::Ganesha, &[mount], &exports).await.unwrap_err();
        assert!(error.to_string().contains("nothing is mounted at /mnt/volume"), "{error}");
        assert!(!fs::exists("/mnt/volume/pv1").unwrap());
    });
}
