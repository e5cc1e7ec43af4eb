//! Volumes of a pod.

use super::container::relative_path;
use super::field::{Errors, Field, repeated};
use super::quantities;
use crate::machinery::names;

/// Largest file mode.
const MODE_MAX: i64 = 0o777;

/// The volumes; gives their names.
pub(super) fn volumes<'a>(list: &Field<'a>, errors: &mut Errors) -> Vec<&'a str> {
    let volumes = list.items();
    for volume in &volumes {
        volume.get("name").name(names::dns1123_label, errors);
        source(volume, errors);
    }
    for position in repeated(&volumes, |volume| Some(volume.get("name").text())) {
        volumes[position].get("name").duplicate(errors);
    }
    volumes.iter().map(|volume| volume.get("name").text()).collect()
}

fn source(volume: &Field<'_>, errors: &mut Errors) {
    let given =
        || volume.entries().into_iter().filter(|(name, field)| *name != "name" && !field.value.is_null());
    let mut sources = given().map(|(name, _)| volume.get(name));
    let Some(first) = sources.next() else {
        volume.missing("must specify a volume type", errors);
        return;
    };
    for other in sources {
        other.forbidden("may not specify more than 1 volume type", errors);
    }
    let name = given().next().map(|(name, _)| name).unwrap_or_default();
    match name {
        "hostPath" => host_path(&first, errors),
        "secret" => {
            first.get("secretName").require(errors);
            mode_and_items(&first, errors);
        }
        "configMap" => {
            first.get("name").require(errors);
            mode_and_items(&first, errors);
        }
        "downwardAPI" => {
            first.get("defaultMode").between(0, MODE_MAX, errors);
            downward(&first, errors);
        }
        "projected" => projected(&first, errors),
        "persistentVolumeClaim" => {
            first.get("claimName").require(errors);
        }
        "emptyDir" => quantities::amount_of("", &first.get("sizeLimit"), errors),
        "nfs" => nfs(&first, errors),
        "csi" => {
            first.get("driver").require(errors);
        }
        "ephemeral" => ephemeral(&first, errors),
        _ => {}
    }
}

/// A directory or device of the host.
pub(super) fn host_path(source: &Field<'_>, errors: &mut Errors) {
    let path = source.get("path");
    if path.require(errors) && path.text().split('/').any(|segment| segment == "..") {
        path.invalid("must not contain '..'", errors);
    }
    let kinds =
        ["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    source.get("type").optional_one_of(&kinds, errors);
}

/// A directory of an NFS server.
pub(super) fn nfs(source: &Field<'_>, errors: &mut Errors) {
    source.get("server").require(errors);
    let path = source.get("path");
    if path.require(errors) && !path.text().starts_with('/') {
        path.invalid("must be an absolute path", errors);
    }
}

fn mode_and_items(source: &Field<'_>, errors: &mut Errors) {
    source.get("defaultMode").between(0, MODE_MAX, errors);
    for item in source.get("items").items() {
        item.get("key").require(errors);
        item_path(&item, errors);
    }
}

fn item_path(item: &Field<'_>, errors: &mut Errors) {
    item.get("mode").between(0, MODE_MAX, errors);
    let path = item.get("path");
    if path.require(errors) {
        relative_path(&path, errors);
        if path.text().starts_with("..") && !path.text().starts_with("../") {
            path.invalid("must not start with '..'", errors);
        }
    }
}

fn downward(source: &Field<'_>, errors: &mut Errors) {
    for item in source.get("items").items() {
        item_path(&item, errors);
        let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
        match (field.value.is_null(), resource.value.is_null()) {
            (false, false) => {
                item.invalid("fieldRef and resourceFieldRef can not be specified simultaneously", errors);
            }
            (true, true) => item.missing("one of fieldRef and resourceFieldRef is required", errors),
            (false, true) => {
                field.get("fieldPath").require(errors);
            }
            (true, false) => {
                resource.get("containerName").require(errors);
                resource.get("resource").require(errors);
            }
        }
    }
}

fn projected(source: &Field<'_>, errors: &mut Errors) {
    source.get("defaultMode").between(0, MODE_MAX, errors);
    for projection in source.get("sources").items() {
        for name in ["secret", "configMap"] {
            let part = projection.get(name);
            if !part.value.is_null() {
                part.get("name").require(errors);
                mode_and_items(&part, errors);
            }
        }
        downward(&projection.get("downwardAPI"), errors);
        let token = projection.get("serviceAccountToken");
        if !token.value.is_null() {
            token.get("path").require(errors);
            if token.get("expirationSeconds").number().is_some_and(|seconds| seconds < 600) {
                token
                    .get("expirationSeconds")
                    .invalid("may not specify a duration less than 10 minutes", errors);
            }
        }
    }
}

fn ephemeral(source: &Field<'_>, errors: &mut Errors) {
    let template = source.get("volumeClaimTemplate");
    if template.value.is_null() {
        template.missing("", errors);
        return;
    }
    super::storage::claim_spec(&template.get("spec"), errors);
}
