//! The other built-in kinds.

use super::*;

fn template() -> Value {
    json!({"spec": {
        "nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "web", "image": "nginx:1"}, {"name": "log", "image": "fluent:2"}],
    }})
}

#[test]
fn nodes() {
    let node = |name: &str, ready: &str, unschedulable: bool| {
        let mut node = object(
            name,
            json!({
                "spec": {"unschedulable": unschedulable},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": name}],
                    "nodeInfo": {
                        "kubeletVersion": "v1.35.0", "osImage": "Debian GNU/Linux 13", "kernelVersion": "6.12.0",
                        "containerRuntimeVersion": "containerd://2.1.0",
                    },
                },
            }),
        );
        node["metadata"]["labels"] = json!({"node-role.kubernetes.io/control-plane": ""});
        node
    };
    let nodes = [node("n1", "True", false), node("n2", "False", true), object("n3", json!({}))];
    insta::assert_snapshot!(print_builtin("", "Node", &nodes));
}

#[test]
fn workloads() {
    let selector = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    });
    let spec = json!({"replicas": 3, "selector": selector, "template": template()});
    let status = json!({
        "replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1, "desiredNumberScheduled": 5,
        "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2, "numberAvailable": 1,
    });
    let objects = [object("web", json!({"spec": spec, "status": status}))];
    let kinds = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"];
    let tables: Vec<String> = kinds.iter().map(|kind| print_builtin("apps", kind, &objects)).collect();
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn jobs() {
    let job = |name: &str, status: Value| {
        object(name, json!({"spec": {"completions": 2, "template": template()}, "status": status}))
    };
    let started = "2026-01-10T11:10:00Z";
    let complete = json!({
        "startTime": started, "completionTime": "2026-01-10T11:11:30Z", "succeeded": 2,
        "conditions": [{"type": "Complete", "status": "True"}],
    });
    let jobs = [
        job("complete", complete),
        job("running", json!({"startTime": started, "active": 1})),
        job("suspended", json!({"conditions": [{"type": "Suspended", "status": "True"}]})),
    ];
    let cron = object(
        "nightly",
        json!({
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template()}}},
            "status": {"active": [{}], "lastScheduleTime": "2026-01-10T03:00:00Z"},
        }),
    );
    let tables = [print_builtin("batch", "Job", &jobs), print_builtin("batch", "CronJob", &[cron])];
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn services() {
    let service =
        |name: &str, spec: Value, status: Value| object(name, json!({"spec": spec, "status": status}));
    let ports = json!([{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "lb.example.com"}]}});
    let services = [
        service("plain", json!({"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": ports}), json!({})),
        service(
            "headless",
            json!({"type": "ClusterIP", "clusterIP": "None", "selector": {"app": "db"}}),
            json!({}),
        ),
        service(
            "waiting",
            json!({"type": "LoadBalancer", "clusterIP": "10.43.0.8", "ports": ports}),
            json!({}),
        ),
        service(
            "balanced",
            json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.1"], "ports": ports}),
            ingress,
        ),
        service("elsewhere", json!({"type": "ExternalName", "externalName": "example.com"}), json!({})),
    ];
    let subset = json!({
        "addresses": [{"ip": "10.42.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 443}],
    });
    let endpoints = [object("plain", json!({"subsets": [subset]})), object("none", json!({}))];
    let slice = object(
        "plain-x7",
        json!({
            "addressType": "IPv4", "ports": [{"port": 80}, {}],
            "endpoints": [{"addresses": ["10.42.0.1"]}, {"addresses": ["10.42.0.2"]}],
        }),
    );
    let tables = [
        print_builtin("", "Service", &services),
        print_builtin("", "Endpoints", &endpoints),
        print_builtin("discovery.k8s.io", "EndpointSlice", &[slice, object("empty", json!({}))]),
    ];
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn networking() {
    let rule = |host: &str| json!({"host": host});
    let ingress = object(
        "front",
        json!({
            "spec": {
                "ingressClassName": "nginx", "tls": [{}],
                "rules": [rule("a.example"), rule("b.example"), rule("c.example"), rule("d.example")],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
        }),
    );
    let class = object(
        "nginx",
        json!({"spec": {"controller": "example.com/nginx", "parameters": {"apiGroup": "example.com", "kind": "P", "name": "x"}}}),
    );
    let policy = object("deny", json!({"spec": {"podSelector": {"matchLabels": {"app": "db"}}}}));
    let tables = [
        print_builtin("networking.k8s.io", "Ingress", &[ingress, object("bare", json!({}))]),
        print_builtin("networking.k8s.io", "IngressClass", &[class]),
        print_builtin("networking.k8s.io", "NetworkPolicy", &[policy, object("all", json!({}))]),
    ];
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn storage() {
    let volume = object(
        "pv-1",
        json!({
            "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "research", "name": "data"},
                "storageClassName": "fast", "volumeMode": "Filesystem",
            },
            "status": {"phase": "Bound"},
        }),
    );
    let bound = object(
        "data",
        json!({
            "spec": {"volumeName": "pv-1", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"]},
        }),
    );
    let waiting =
        object("more", json!({"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}));
    let mut class = object("fast", json!({"provisioner": "example.com/disk", "allowVolumeExpansion": true}));
    class["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let driver =
        object("example.com", json!({"spec": {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}}));
    let tables = [
        print_builtin("", "PersistentVolume", &[volume]),
        print_builtin("", "PersistentVolumeClaim", &[bound, waiting]),
        print_builtin("storage.k8s.io", "StorageClass", &[class]),
        print_builtin("storage.k8s.io", "CSIDriver", &[driver]),
    ];
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn events() {
    let core = object(
        "web.1",
        json!({
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{web}"},
            "type": "Normal", "reason": "Pulled", "message": "Image is there.\n", "count": 3,
            "source": {"component": "node-agent", "host": "n1"},
            "firstTimestamp": "2026-01-10T11:00:00Z", "lastTimestamp": "2026-01-10T11:59:30Z",
        }),
    );
    let new = object(
        "web.2",
        json!({
            "regarding": {"kind": "Node", "name": "n1"}, "type": "Warning", "reason": "Rebooted", "note": "It was.",
            "reportingController": "metal", "reportingInstance": "metal-0", "eventTime": "2026-01-10T11:58:00.000000Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-10T11:59:55.000000Z"},
        }),
    );
    insta::assert_snapshot!(print_builtin("", "Event", &[core, new]));
}

#[test]
fn rights_and_requests() {
    let binding = object(
        "admins",
        json!({
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [
                {"kind": "User", "name": "ann"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "ops"},
                {"kind": "ServiceAccount", "namespace": "kube-system", "name": "robot"},
            ],
        }),
    );
    let request = |name: &str, status: Value| {
        let spec = json!({"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:n1", "expirationSeconds": 7200});
        object(name, json!({"spec": spec, "status": status}))
    };
    let requests = [
        request("new", json!({})),
        request("issued", json!({"conditions": [{"type": "Approved"}], "certificate": "LS0t"})),
        request("denied", json!({"conditions": [{"type": "Denied"}]})),
    ];
    let tables = [
        print_builtin("rbac.authorization.k8s.io", "RoleBinding", &[binding]),
        print_builtin("rbac.authorization.k8s.io", "Role", &[object("reader", json!({}))]),
        print_builtin("certificates.k8s.io", "CertificateSigningRequest", &requests),
    ];
    insta::assert_snapshot!(tables.join("\n\n"));
}

#[test]
fn configuration() {
    let holder = object("leader", json!({"spec": {"holderIdentity": "host-1"}}));
    let secret = object("key", json!({"type": "Opaque", "data": {"a": "", "b": ""}}));
    let map = object("settings", json!({"data": {"a": ""}, "binaryData": {"b": ""}}));
    let budget = object("web", json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}));
    let class = object("high", json!({"value": 1000, "globalDefault": true}));
    let mut revision = object("web-1", json!({"revision": 4}));
    revision["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true}]);
    let metric = |kind: &str, field: &str, target: Value| json!({"type": kind, field: {"name": "cpu", "target": target}});
    let autoscaler = object(
        "web",
        json!({
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 9,
                "metrics": [
                    metric("Resource", "resource", json!({"averageUtilization": 80})),
                    metric("Pods", "pods", json!({"averageValue": "10"})),
                    metric("Object", "object", json!({"value": "1k"})),
                ],
            },
            "status": {
                "currentReplicas": 2,
                "currentMetrics": [{"resource": {"current": {"averageUtilization": 40, "averageValue": "100m"}}}],
            },
        }),
    );
    let tables = [
        print_builtin("coordination.k8s.io", "Lease", &[holder]),
        print_builtin("", "Secret", &[secret]),
        print_builtin("", "ConfigMap", &[map]),
        print_builtin("policy", "PodDisruptionBudget", &[budget]),
        print_builtin("scheduling.k8s.io", "PriorityClass", &[class]),
        print_builtin("apps", "ControllerRevision", &[revision]),
        print_builtin("autoscaling", "HorizontalPodAutoscaler", &[autoscaler]),
    ];
    insta::assert_snapshot!(tables.join("\n\n"));
}
