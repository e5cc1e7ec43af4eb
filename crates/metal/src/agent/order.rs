//! What a host's specification means for its agent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_agent::{
    config_drive,
    digest::Expected,
    hints::RootDeviceHints,
    protocol::{ChecksumType, ConfigDrive, Deployment, Image, ImageFormat},
};
use drystone_api::{BareMetalHost, HostImage, ImageFormat as HostImageFormat};
use serde_json::Value;

use crate::medium::Seed;

/// What is wrong with a specification, by its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct OrderError {
    field: &'static str,
    reason: String,
}

#[expect(clippy::needless_pass_by_value, reason = "made to be the end of `map_err`, which hands errors over")]
fn wrong(field: &'static str, reason: impl ToString) -> OrderError {
    OrderError { field, reason: reason.to_string() }
}

/// The deployment of a host's image with its data.
///
/// # Errors
/// [`OrderError`] names the field that makes it impossible.
pub fn deployment(host: &BareMetalHost, image: &HostImage, seed: &Seed) -> Result<Deployment, OrderError> {
    let hints = serde_json::to_value(&host.spec.root_device_hints)
        .map_err(|error| wrong("spec.rootDeviceHints", error))?;
    let root_device_hints = if hints.is_null() {
        RootDeviceHints::default()
    } else {
        serde_json::from_value(hints).map_err(|error| wrong("spec.rootDeviceHints", error))?
    };
    Ok(Deployment { image: translate(image)?, root_device_hints, config_drive: drive(seed)? })
}

fn translate(image: &HostImage) -> Result<Image, OrderError> {
    if !image.url.starts_with("http://") && !image.url.starts_with("https://") {
        return Err(wrong(
            "spec.image.url",
            format!("{:?}: images are fetched by http and https", image.url),
        ));
    }
    let checksum_type = match image.checksum_type.as_deref() {
        None | Some("auto") => ChecksumType::Auto,
        Some("md5") => ChecksumType::Md5,
        Some("sha256") => ChecksumType::Sha256,
        Some("sha512") => ChecksumType::Sha512,
        Some(other) => {
            return Err(wrong(
                "spec.image.checksumType",
                format!("{other:?} is none of md5, sha256, sha512, auto"),
            ));
        }
    };
    if image.checksum.is_empty() {
        return Err(wrong("spec.image.checksum", "is required for images that are written to disk"));
    }
    if !image.checksum.contains("://") {
        Expected::parse(&image.checksum, checksum_type)
            .map_err(|error| wrong("spec.image.checksum", error))?;
    }
    let path = image.url.split(['?', '#']).next().unwrap_or_default();
    let format = match image.format {
        Some(HostImageFormat::Qcow2) => ImageFormat::Qcow2,
        None if path.ends_with(".qcow2") => ImageFormat::Qcow2,
        None | Some(HostImageFormat::Raw) => ImageFormat::Raw,
        Some(HostImageFormat::Vdi | HostImageFormat::Vmdk) => {
            return Err(wrong(
                "spec.image.format",
                "vdi and vmdk are not written; convert the image to qcow2 or raw",
            ));
        }
        Some(HostImageFormat::LiveIso) => {
            return Err(wrong("spec.image.format", "a live ISO is booted, not written"));
        }
    };
    Ok(Image { url: image.url.clone(), checksum: image.checksum.clone(), checksum_type, format })
}

/// The configuration drive; none for a host without data.
fn drive(seed: &Seed) -> Result<Option<ConfigDrive>, OrderError> {
    if seed.user_data.is_empty() && seed.network_data.is_empty() && seed.meta_data.is_empty() {
        return Ok(None);
    }
    let text = |field: &'static str, bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| wrong(field, "is not UTF-8 text"))
    };
    let meta_data = seed.metadata().map_err(|error| wrong("spec.metaData", error.reason))?;
    let meta_data = Value::Object(meta_data);
    let network_data = text("spec.networkData", &seed.network_data)?;
    let drive = ConfigDrive { meta_data, user_data: STANDARD.encode(&seed.user_data), network_data };
    // What no agent could write is refused here, where it can be corrected.
    config_drive::build(&drive).map_err(|error| wrong("spec.networkData", error))?;
    Ok(Some(drive))
}

#[cfg(test)]
mod tests {
    use drystone_api::BareMetalHostSpec;

    use super::*;

    fn host() -> BareMetalHost {
        let mut host = BareMetalHost::new("c1", BareMetalHostSpec::default());
        host.metadata.uid = Some("u-1".to_owned());
        host
    }

    fn image(change: impl FnOnce(&mut HostImage)) -> HostImage {
        let mut image =
            HostImage { url: "http://a/x.raw".into(), checksum: "0".repeat(64), ..HostImage::default() };
        change(&mut image);
        image
    }

    #[test]
    fn an_image_becomes_an_order() {
        let seed = Seed {
            uid: "u-1".to_owned(),
            hostname: "c1".to_owned(),
            user_data: b"#cloud-config\n".to_vec(),
            meta_data: b"name: other\nrack: 7\n".to_vec(),
            ..Seed::default()
        };
        let order =
            deployment(&host(), &image(|image| image.url = "http://a/x.qcow2?y=.raw".into()), &seed).unwrap();
        assert_eq!(order.image.format, ImageFormat::Qcow2);
        let drive = order.config_drive.unwrap();
        assert_eq!((drive.instance_id(), drive.meta_data["rack"].as_u64()), ("u-1", Some(7)));
        assert_eq!((drive.meta_data["name"].as_str(), drive.hostname()), (Some("other"), Some("c1")));
        assert!(deployment(&host(), &image(|_| {}), &Seed::default()).unwrap().config_drive.is_none());
    }

    #[test]
    fn mistakes_name_their_field() {
        let message =
            |image: HostImage, seed: Seed| deployment(&host(), &image, &seed).unwrap_err().to_string();
        let plain = Seed::default;
        assert!(message(image(|i| i.url = "ftp://a/b".into()), plain()).starts_with("spec.image.url"));
        assert!(message(image(|i| i.checksum = String::new()), plain()).contains("is required"));
        assert!(message(image(|i| i.checksum = "xyz".into()), plain()).contains("hexadecimal"));
        assert!(message(image(|i| i.checksum_type = Some("crc".into())), plain()).contains("crc"));
        assert!(message(image(|i| i.format = Some(HostImageFormat::Vmdk)), plain()).contains("vmdk"));
        let seed = Seed { network_data: b"version: 1".to_vec(), ..Seed::default() };
        assert!(message(image(|_| {}), seed).starts_with("spec.networkData"));
        let seed = Seed { meta_data: b"[1]".to_vec(), ..Seed::default() };
        assert!(message(image(|_| {}), seed).starts_with("spec.metaData"));
    }
}
