use proptest::prelude::*;

use super::*;

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(|object| format!("{}/{}", object.kind, object.name)).collect()
}

fn of_text(text: &str) -> Result<Rendering, ManifestError> {
    of_files([("m.yaml", text)].into_iter())
}

#[test]
fn what_helm_prints_is_sorted_into_its_kinds() {
    let printed = "\
---
# Source: app/crds/crds.yaml
# Source: app/charts/x
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: a.example.com
  annotations: {helm.sh/hook: crd-install}
---
# Source: app/templates/cm.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data:
  text: |
    ---
    # Source: nowhere
---
# Source: app/templates/hooks.yaml
# a comment
apiVersion: batch/v1
kind: Job
metadata:
  name: b
  annotations:
    helm.sh/hook: Pre-Install , post-delete
    helm.sh/hook-weight: \"-5\"
    helm.sh/hook-delete-policy: hook-succeeded, hook-failed
---
# Source: app/templates/hooks.yaml
apiVersion: v1
kind: Pod
metadata: {name: t, annotations: {helm.sh/hook: test}}
---
# Source: app/templates/hooks.yaml
apiVersion: v1
kind: Pod
metadata: {name: a, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: x}}
";
    let rendering = of_helm(printed).unwrap();
    assert_eq!(names(&rendering.crds), ["CustomResourceDefinition/a.example.com"]);
    assert_eq!(rendering.crds[0].source, "app/crds/crds.yaml");
    assert_eq!(names(&rendering.manifests), ["ConfigMap/one"]);
    assert!(rendering.manifests[0].manifest.ends_with("    ---\n    # Source: nowhere\n"));
    assert!(rendering.manifests[0].manifest.starts_with("apiVersion: v1\n"));
    let hooks: Vec<_> = rendering.hooks.iter().map(|hook| (hook.object.name.as_str(), hook.weight)).collect();
    assert_eq!(hooks, [("b", -5), ("a", 0)]);
    let events = BTreeSet::from([HookEvent::PreInstall, HookEvent::PostDelete]);
    assert_eq!(rendering.hooks[0].events, events);
    assert_eq!(rendering.hooks[0].delete_policies, ["hook-succeeded", "hook-failed"]);
    assert_eq!(rendering.hooks_of(HookEvent::PostDelete).count(), 1);
}

#[test]
fn plain_manifests_are_put_in_order() {
    let text = "\
apiVersion: example.com/v1
kind: Zebra
metadata: {name: z}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: other}
---
apiVersion: example.com/v1
kind: Ant
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: s2}}
- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}
- {apiVersion: v1, kind: Service, metadata: {name: s1}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: c}
---
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {helm.sh/hook: crd-install}}
";
    let rendering = of_text(text).unwrap();
    assert_eq!(
        names(&rendering.manifests),
        ["Namespace/ns", "Service/s2", "Service/s1", "Deployment/d", "Ant/a", "Zebra/z"]
    );
    assert_eq!(names(&rendering.crds), ["CustomResourceDefinition/c"]);
    assert_eq!(rendering.manifests[3].namespace.as_deref(), Some("other"));
    assert!(rendering.warnings[0].contains("no hook `crd-install`"));
}

#[test]
fn what_is_no_object_is_told_with_its_place() {
    for (text, why) in [
        ("a: 1", "apiVersion is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x}", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 1}", "metadata.name is not a text"),
        ("- a", "not a mapping"),
        ("a: [", "line"),
        ("apiVersion: v1\nkind: List\nitems: [1]", "item of the list"),
    ] {
        let error =
            of_text(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\n---\n{text}")).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!((error.source_file.as_str(), error.document), ("m.yaml", 2));
    }
}

proptest! {
    #[test]
    fn damaged_output_is_answered(text in drystone_hostile::damaged_text([
        "---\n# Source: a/b\napiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {helm.sh/hook: test}}\n---\nkind: List\nitems: []\n",
    ])) {
        let _ = of_helm(&text);
        let _ = of_text(&text);
    }
}
