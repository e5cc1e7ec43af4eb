//! Orders carried out, failed, repeated and superseded.

use std::{process::Command, sync::atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_agent::{
    config_drive,
    hints::RootDeviceHints,
    iso9660,
    protocol::{ChecksumType, ConfigDrive, Deployment, Image, ImageFormat, Order, Orders, Stage},
};

use crate::desk::{Desk, FileMachine, start_agent};

const MIB: u64 = 1 << 20;

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn deploy(id: &str, address: std::net::SocketAddr, checksum: &str, drive: Option<ConfigDrive>) -> Orders {
    let image = Image {
        url: format!("http://{address}/image"),
        checksum: checksum.to_owned(),
        checksum_type: ChecksumType::Sha256,
        format: ImageFormat::Raw,
    };
    let deployment = Deployment { image, root_device_hints: RootDeviceHints::default(), config_drive: drive };
    Orders { id: id.to_owned(), order: Order::Deploy(Box::new(deployment)) }
}

/// An image of a partitioned disk; none where there is no `sfdisk`.
fn partitioned() -> Option<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 * MIB).unwrap();
    let mut sfdisk = Command::new("sfdisk")
        .arg("--quiet")
        .arg(file.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .ok()?;
    std::io::Write::write_all(sfdisk.stdin.as_mut().unwrap(), b"label: gpt\nstart=2048, size=4096\n")
        .unwrap();
    assert!(sfdisk.wait().unwrap().success());
    let mut image = std::fs::read(file.path()).unwrap();
    image[3 << 20] = 7;
    Some(image)
}

#[tokio::test]
async fn an_image_and_its_configuration_drive_are_written() {
    let Some(image) = partitioned() else {
        println!("skipped: no sfdisk");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(32 * MIB).unwrap();
    let desk = Desk::default();
    desk.image.lock().unwrap().clone_from(&image);
    // The desk is not there at once, and the image server breaks off twice.
    desk.unwell.store(2, Ordering::SeqCst);
    desk.breaks.store(2, Ordering::SeqCst);
    let address = desk.serve().await;
    let drive = ConfigDrive {
        meta_data: serde_json::json!({"uuid": "u-1"}),
        user_data: STANDARD.encode("#cloud-config\n"),
        network_data: String::new(),
    };
    *desk.orders.lock().unwrap() = Some(deploy("one", address, &sha256(&image), Some(drive.clone())));
    let agent = start_agent(FileMachine { disk: disk.path().to_owned(), size: 32 * MIB }, address);
    let report = desk.report_of("one").await;
    agent.abort();
    assert_eq!((report.error, report.bytes), (None, image.len() as u64));
    assert_eq!(report.disk.unwrap().serial_number, "S1");
    assert_eq!(desk.inventory.lock().unwrap().as_ref().unwrap().disks.len(), 1);
    assert!(desk.progress.lock().unwrap().iter().any(|progress| progress.stage == Stage::Taken));
    let written = std::fs::read(disk.path()).unwrap();
    assert_eq!(written[3 << 20], 7);
    // The drive is the last partition: it is found by its label, as an operating system does.
    let starts = (0..written.len()).step_by(1 << 20);
    let drives: Vec<ConfigDrive> = starts
        .filter(|start| iso9660::volume_id(&mut std::io::Cursor::new(&written[*start..])).is_ok())
        .map(|start| config_drive::read(&mut std::io::Cursor::new(&written[start..])).unwrap())
        .collect();
    assert_eq!(drives, [drive]);
}

#[tokio::test]
async fn a_failure_is_told_and_another_attempt_is_made() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(16 * MIB).unwrap();
    let desk = Desk::default();
    let image = vec![9; 100_000];
    desk.image.lock().unwrap().clone_from(&image);
    let address = desk.serve().await;
    *desk.orders.lock().unwrap() = Some(deploy("one", address, &"0".repeat(64), None));
    let agent = start_agent(FileMachine { disk: disk.path().to_owned(), size: 16 * MIB }, address);
    let report = desk.report_of("one").await;
    assert!(report.error.as_ref().unwrap().contains("digest"), "{report:?}");
    assert!(std::fs::read(disk.path()).unwrap()[..100_000].iter().all(|byte| *byte == 0), "wiped");

    *desk.orders.lock().unwrap() = Some(deploy("two", address, &sha256(&image), None));
    assert_eq!(desk.report_of("two").await.error, None);
    assert_eq!(std::fs::read(disk.path()).unwrap()[..100_000], image);

    *desk.orders.lock().unwrap() = Some(Orders { id: "three".to_owned(), order: Order::Clean });
    assert_eq!(desk.report_of("three").await.error, None);
    assert!(std::fs::read(disk.path()).unwrap().iter().all(|byte| *byte == 0), "wiped");

    let too_large = vec![1; usize::try_from(17 * MIB).unwrap()];
    *desk.orders.lock().unwrap() = Some(deploy("four", address, &sha256(&too_large), None));
    *desk.image.lock().unwrap() = too_large;
    let report = desk.report_of("four").await;
    assert!(report.error.as_ref().unwrap().contains("larger disk"), "{report:?}");

    let missing = Orders {
        id: "five".to_owned(),
        order: match deploy("", address, &"0".repeat(64), None).order {
            Order::Deploy(mut deployment) => {
                deployment.root_device_hints.serial_number = Some("S2".to_owned());
                Order::Deploy(deployment)
            }
            other => other,
        },
    };
    *desk.orders.lock().unwrap() = Some(missing);
    let report = desk.report_of("five").await;
    assert!(report.error.as_ref().unwrap().contains("rootDeviceHints"), "{report:?}");
    agent.abort();
}
