#!/usr/bin/env python3
"""A stand-in for kubeadm: takes the arguments and configuration files that kubeadm takes, and nothing else.

Fields are those of kubeadm.k8s.io/v1beta4 (Kubernetes' reference of kubeadm's configuration). What it does is written to $KUBEADM_LOG.
"""
import ipaddress, json, os, re, sys

ARG = {"name": str, "value": str}
COMPONENT = {"extraArgs": [ARG], "extraVolumes": [dict], "extraEnvs": [dict]}
REGISTRATION = {"name": str, "criSocket": str, "taints": [{"key": str, "value": str, "effect": str}],
                "kubeletExtraArgs": [ARG], "ignorePreflightErrors": [str], "imagePullPolicy": str,
                "imagePullSerial": bool}
ENDPOINT = {"advertiseAddress": str, "bindPort": int}
TYPE = {"apiVersion": str, "kind": str}
SCHEMA = {
    "InitConfiguration": {**TYPE, "bootstrapTokens": [{"token": str, "description": str, "ttl": str, "expires": str,
                                                       "usages": [str], "groups": [str]}],
                          "dryRun": bool, "nodeRegistration": REGISTRATION, "localAPIEndpoint": ENDPOINT,
                          "certificateKey": str, "skipPhases": [str], "patches": dict, "timeouts": dict},
    "ClusterConfiguration": {**TYPE, "etcd": dict,
                             "networking": {"serviceSubnet": str, "podSubnet": str, "dnsDomain": str},
                             "kubernetesVersion": str, "controlPlaneEndpoint": str,
                             "apiServer": {**COMPONENT, "certSANs": [str]}, "controllerManager": COMPONENT,
                             "scheduler": COMPONENT, "dns": dict, "proxy": dict, "certificatesDir": str,
                             "imageRepository": str, "featureGates": dict, "clusterName": str,
                             "encryptionAlgorithm": str, "certificateValidityPeriod": str,
                             "caCertificateValidityPeriod": str},
    "JoinConfiguration": {**TYPE, "dryRun": bool, "nodeRegistration": REGISTRATION, "caCertPath": str,
                          "discovery": {"bootstrapToken": {"token": str, "apiServerEndpoint": str, "caCertHashes": [str],
                                                           "unsafeSkipCAVerification": bool},
                                        "file": dict, "tlsBootstrapToken": str, "timeout": str},
                          "controlPlane": {"localAPIEndpoint": ENDPOINT, "certificateKey": str},
                          "skipPhases": [str], "patches": dict, "timeouts": dict},
}
TOKEN = re.compile(r"^[a-z0-9]{6}\.[a-z0-9]{16}$")
ETC = os.environ.get("KUBEADM_ETC", "/etc/kubernetes")


def fail(why):
    print(f"error: {why}", file=sys.stderr)
    sys.exit(1)


def log(entry):
    with open(os.environ["KUBEADM_LOG"], "a") as file:
        file.write(json.dumps(entry) + "\n")


def check(value, schema, path):
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            fail(f"{path}: must be an object")
        for key, inner in value.items():
            if key not in schema:
                fail(f'strict decoding error: unknown field "{path}.{key}"')
            check(inner, schema[key], f"{path}.{key}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            fail(f"{path}: must be a list")
        for index, inner in enumerate(value):
            check(inner, schema[0], f"{path}[{index}]")
    elif not isinstance(value, schema) or (schema is int and isinstance(value, bool)):
        fail(f"{path}: must be {schema.__name__}")


def read(file, kinds):
    if os.stat(file).st_mode & 0o077:
        fail(f"{file} can be read by others, and has tokens in it")
    documents = {}
    for text in open(file).read().split("\n---\n"):
        document = json.loads(text)
        if document["apiVersion"] != "kubeadm.k8s.io/v1beta4":
            fail(f"unknown version {document['apiVersion']}")
        kind = document["kind"]
        if kind not in kinds:
            fail(f"{kind} does not belong here")
        check(document, SCHEMA[kind], kind)
        documents[kind] = document
    return documents


def write(name, text):
    os.makedirs(ETC, exist_ok=True)
    with open(f"{ETC}/{name}", "w") as file:
        file.write(text)


def init(arguments):
    options = [argument for argument in arguments if argument.startswith("--")]
    if options != ["--skip-token-print", "--skip-certificate-key-print", "--config"]:
        fail(f"unknown options {options}")
    documents = read(arguments[-1], ["ClusterConfiguration", "InitConfiguration"])
    cluster, start = documents["ClusterConfiguration"], documents["InitConfiguration"]
    ipaddress.ip_network(cluster["networking"]["podSubnet"])
    ipaddress.ip_address(start["localAPIEndpoint"]["advertiseAddress"])
    for token in start["bootstrapTokens"]:
        if not TOKEN.match(token["token"]):
            fail("the bootstrap token is not valid")
    if not re.match(r"^v1\.\d+\.\d+$", cluster["kubernetesVersion"]):
        fail("the version is not valid")
    if os.path.exists(f"{ETC}/kubelet.conf"):
        fail("[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: it exists already")
    write("kubelet.conf", "kubelet")
    if os.path.exists("/run/kubeadm-dies"):
        os.remove("/run/kubeadm-dies")
        fail("interrupted")
    write("admin.conf", "admin")
    log({"init": start["nodeRegistration"]["name"], "endpoint": cluster["controlPlaneEndpoint"],
         "file": arguments[-1]})


def join(arguments):
    if arguments[:1] != ["--config"] or len(arguments) != 2:
        fail(f"unknown arguments {arguments}")
    document = read(arguments[1], ["JoinConfiguration"])["JoinConfiguration"]
    discovery = document["discovery"]["bootstrapToken"]
    if not TOKEN.match(discovery["token"]):
        fail("the token is not valid")
    if not discovery["caCertHashes"][0].startswith("sha256:"):
        fail("the authority is not pinned")
    plane = document.get("controlPlane")
    if plane is not None and not re.match("^[0-9a-f]{64}$", plane["certificateKey"]):
        fail("the certificate key is not valid")
    if os.path.exists(f"{ETC}/kubelet.conf"):
        fail("[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: it exists already")
    write("kubelet.conf", "kubelet")
    log({"join": document["nodeRegistration"]["name"], "controlPlane": plane is not None, "file": arguments[1],
         "token": discovery["token"]})


def main():
    arguments = sys.argv[1:]
    match arguments:
        case ["version", "-o", "short"]:
            print("v1.36.3")
        case ["init", "phase", "upload-certs", "--upload-certs"]:
            print("[upload-certs] Storing the certificates\n[upload-certs] Using certificate key:\n" + "ab" * 32)
        case ["init", *rest]:
            init(rest)
        case ["join", *rest]:
            join(rest)
        case ["token", "create", "--ttl", ttl, "--description", text, "--print-join-command"]:
            log({"invite": text, "ttl": ttl})
            print("kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:" + "12" * 32)
        case ["token", "delete", token]:
            log({"withdraw": token})
        case ["reset", "--force"]:
            for name in ["kubelet.conf", "admin.conf"]:
                if os.path.exists(f"{ETC}/{name}"):
                    os.remove(f"{ETC}/{name}")
            log({"reset": True})
        case _:
            fail(f"unknown command {arguments}")


main()
