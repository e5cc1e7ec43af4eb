//! Node templates of a flavour.

use super::{
    flavour::{BlockStorage, ConnectionPoint, Reading, SoftwareImage, Vdu, VirtualLink},
    types::Kind,
};
use crate::{
    meta::Checksum,
    yaml::{Node, Value},
};

/// Types of artifacts that are images.
const SOFTWARE_IMAGE: &str = "tosca.artifacts.nfv.SwImage";

/// Reads all node templates, and what they require of each other.
pub(super) fn read(reading: &mut Reading<'_>) {
    let document = reading.document;
    for entry in document.node_templates() {
        let (name, template) = (&entry.key, &entry.value);
        let kind = reading.types.kind_of(template);
        match kind {
            Kind::Vnf => {
                let description = template.at(&["properties", "flavour_description"]).and_then(Node::text);
                reading.flavour.description = description.map(str::to_owned);
            }
            Kind::Compute => {
                let vdu = vdu(reading, name, template);
                reading.flavour.vdus.insert(name.clone(), vdu);
            }
            Kind::BlockStorage => {
                let storage = storage(reading, name, template);
                reading.flavour.storages.insert(name.clone(), storage);
            }
            Kind::ConnectionPoint => {
                let order = template.at(&["properties", "order"]).and_then(Node::number);
                let point = ConnectionPoint { order, ..ConnectionPoint::default() };
                reading.flavour.connection_points.insert(name.clone(), point);
            }
            Kind::VirtualLink => {
                let description = template.at(&["properties", "description"]).and_then(Node::text);
                let link = VirtualLink { description: description.map(str::to_owned) };
                reading.flavour.virtual_links.insert(name.clone(), link);
            }
            Kind::ExternalPoint => drop(reading.flavour.external_points.insert(name.clone())),
            Kind::Other => {}
            Kind::Unknown => unknown(reading, name, template),
        }
    }
    for entry in document.node_templates() {
        requirements(reading, &entry.key, &entry.value);
    }
}

fn unknown(reading: &mut Reading<'_>, name: &str, template: &Node) {
    let Some(type_node) = template.get("type") else {
        reading.error(template, format!("the node `{name}` has no type"), "write its type");
        return;
    };
    let type_name = type_node.text().unwrap_or_default();
    let message = format!("`{name}` is of the type `{type_name}`, of which nothing is known");
    let advice = "use a type of SOL001, or define this one in `node_types`, derived from such a type";
    reading.error(type_node, message, advice);
}

fn vdu(reading: &mut Reading<'_>, name: &str, template: &Node) -> Vdu {
    let properties = template.get("properties");
    let compute = template.at(&["capabilities", "virtual_compute", "properties"]);
    let of_compute = |path: &[&str]| compute.and_then(|compute| compute.at(path));
    let flavor = of_compute(&[
        "requested_additional_capabilities",
        "properties",
        "requested_additional_capability_name",
    ]);
    let bound = |key| properties.and_then(|properties| properties.at(&["vdu_profile", key]));
    let bounds = [bound("min_number_of_instances"), bound("max_number_of_instances")];
    for node in bounds.into_iter().flatten() {
        number(reading, node);
    }
    let [least, most] = bounds.map(|node| node.and_then(Node::number));
    if let (Some(low), Some(high), Some(node)) = (least, most, bounds[1])
        && low > high
    {
        reading.error(node, format!("at most {high} instances, and at least {low}"), "correct one of them");
    }
    Vdu {
        name: properties
            .and_then(|properties| properties.get("name"))
            .and_then(Node::text)
            .unwrap_or(name)
            .to_owned(),
        image: software_image(reading, name, template),
        flavor: flavor.and_then(Node::text).map(str::to_owned),
        processors: of_compute(&["virtual_cpu", "num_virtual_cpu"]).and_then(Node::number),
        memory: of_compute(&["virtual_memory", "virtual_mem_size"]).and_then(Node::text).map(str::to_owned),
        least,
        most,
        initial: least.unwrap_or(1),
        ..Vdu::default()
    }
}

/// A whole number, or a problem.
pub(super) fn number(reading: &mut Reading<'_>, node: &Node) -> Option<u32> {
    let number = node.number();
    if number.is_none() {
        let found = node.text().map_or_else(|| node.kind().to_owned(), |text| format!("`{text}`"));
        reading.error(node, format!("{found} is not a whole number from 0"), "write a number");
    }
    number
}

fn storage(reading: &mut Reading<'_>, name: &str, template: &Node) -> BlockStorage {
    let size = template.at(&["properties", "virtual_block_storage_data", "size_of_storage"]);
    if let Some(node) = size
        && bytes(node.text().unwrap_or_default()).is_none()
    {
        reading.error(node, "not a size", "write it as `30 GB`");
    }
    BlockStorage {
        size: size.and_then(Node::text).map(str::to_owned),
        image: software_image(reading, name, template),
    }
}

/// The image of a node that has one.
fn software_image(reading: &mut Reading<'_>, name: &str, template: &Node) -> Option<SoftwareImage> {
    let artifacts = template.get("artifacts").map_or(&[][..], Node::entries);
    let images: Vec<&Node> = artifacts
        .iter()
        .map(|entry| &entry.value)
        .filter(|artifact| artifact.get("type").and_then(Node::text) == Some(SOFTWARE_IMAGE))
        .collect();
    if let Some(second) = images.get(1) {
        reading.error(second, format!("`{name}` has more than one image"), "keep one");
    }
    let Some(data) = template.at(&["properties", "sw_image_data"]) else {
        if let Some(image) = images.first() {
            let message = format!("`{name}` has an image without `sw_image_data`");
            reading.error(image, message, "describe it in the properties of the node");
        }
        return None;
    };
    let Some(image_name) = data.get("name").and_then(Node::text) else {
        reading.error(
            data,
            "`sw_image_data` has no `name`",
            "write the name by which the VIM knows the image",
        );
        return None;
    };
    let text = |key: &str| data.get(key).and_then(Node::text);
    let mut image = SoftwareImage {
        id: name.to_owned(),
        name: image_name.to_owned(),
        version: text("version").unwrap_or_default().to_owned(),
        container_format: text("container_format").unwrap_or("bare").to_ascii_uppercase(),
        disk_format: text("disk_format").unwrap_or("qcow2").to_ascii_uppercase(),
        ..SoftwareImage::default()
    };
    let mut size = |key: &str| {
        let node = data.get(key)?;
        let bytes = bytes(node.text().unwrap_or_default());
        if bytes.is_none() {
            reading.error(node, format!("`{key}` is not a size"), "write it as `2 GB`");
        }
        bytes
    };
    image.min_disk = size("min_disk").unwrap_or_default();
    image.min_ram = size("min_ram").unwrap_or_default();
    image.size = size("size").unwrap_or_default();
    image.checksum = data.get("checksum").and_then(|checksum| image_checksum(reading, checksum));
    image.image_path = images.first().and_then(|artifact| image_path(reading, artifact));
    Some(image)
}

fn image_checksum(reading: &mut Reading<'_>, node: &Node) -> Option<Checksum> {
    let part = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default();
    match Checksum::new(part("algorithm"), part("hash")) {
        Ok(checksum) => Some(checksum),
        Err(message) => {
            reading.warning(node, message, "write `algorithm: sha-256` and the hash in hexadecimal");
            None
        }
    }
}

/// Where in the package an image is. It need not be there: the VIM may know it by its name.
fn image_path(reading: &mut Reading<'_>, artifact: &Node) -> Option<String> {
    let Some(file) = artifact.get("file").or(Some(artifact)).filter(|node| node.text().is_some()) else {
        reading.error(artifact, "the image has no `file`", "write its path");
        return None;
    };
    let reference = file.text().unwrap_or_default();
    let found = reading.document.find(reading.archive, reference);
    if found.is_none() {
        let message = format!("the image `{reference}` is not in the package");
        reading.warning(file, message, "give it to the VIM under the name in `sw_image_data`");
    }
    found
}

/// What a node requires: `- virtual_binding: VDU` or `- virtual_binding: {node: VDU}`.
fn requirements(reading: &mut Reading<'_>, name: &str, template: &Node) {
    let kind = reading.types.kind_of(template);
    let requirements = template.get("requirements").map_or(&[][..], Node::items);
    for entry in requirements.iter().flat_map(Node::entries) {
        let node = entry.value.get("node").unwrap_or(&entry.value);
        let target = match &node.value {
            Value::Sequence(items) => items.first().and_then(Node::text),
            _ => node.text(),
        };
        let Some(target) = target else { continue };
        let flavour = &mut reading.flavour;
        let found = match (kind, entry.key.as_str()) {
            (Kind::ConnectionPoint, "virtual_binding") => {
                let vdu = flavour.vdus.get_mut(target);
                if let (Some(vdu), Some(point)) = (vdu, flavour.connection_points.get_mut(name)) {
                    vdu.connection_points.push(name.to_owned());
                    point.vdu = Some(target.to_owned());
                }
                flavour.vdus.contains_key(target)
            }
            (Kind::ConnectionPoint, "virtual_link") => {
                if let Some(point) = flavour.connection_points.get_mut(name) {
                    point.virtual_link = Some(target.to_owned());
                }
                flavour.virtual_links.contains_key(target)
            }
            (Kind::Compute, "virtual_storage") => {
                if let Some(vdu) = flavour.vdus.get_mut(name) {
                    vdu.storages.push(target.to_owned());
                }
                // A file or object store may be required as well; it is not ours.
                reading.document.node_templates().iter().any(|entry| entry.key == target)
            }
            _ => continue,
        };
        if !found {
            let message =
                format!("`{name}` requires `{target}` as its {}, which the flavour does not have", entry.key);
            reading.error(node, message, "add the node, or name another one");
        }
    }
    if kind == Kind::ConnectionPoint
        && reading.flavour.connection_points.get(name).is_some_and(|point| point.vdu.is_none())
    {
        reading.error(
            template,
            format!("the port `{name}` belongs to no VDU"),
            "add `requirements: [{virtual_binding: VDU}]`",
        );
    }
}

/// A size of TOSCA (`30 GB`, `512 MiB`) in bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (whole, fraction) = text[..at].split_once('.').unwrap_or((&text[..at], ""));
    let unit: u64 = match text[at..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(bytes);
    }
    // Digits beyond the sixth are less than a millionth of the unit.
    let digits = fraction.get(..fraction.len().min(6))?;
    let scale = 10_u64.pow(u32::try_from(digits.len()).ok()?);
    let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(unit) / u128::from(scale);
    bytes.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_of_tosca() {
        assert_eq!(bytes("2 GB"), Some(2_000_000_000));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("1.75 GiB"), Some(7 << 28));
        for wrong in ["", "GB", "1.2.3 GB", ".5 GB", "1 XB", "-1 GB", "99999999999999999999", "20000000 TB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
