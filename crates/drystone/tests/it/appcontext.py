"""Does with an AppContext what an action controller of EMCO does, through the etcd client of Python's users.

Arguments: host, port, AppContext, and, if they are needed, user and password.
"""

import json
import sys

import etcd3

host, port, context, *credentials = sys.argv[1:]
user, password = credentials or (None, None)
client = etcd3.client(host=host, port=int(port), user=user, password=password, timeout=60)
# Newer gRPC libraries refuse to send credentials of this kind in plain text; the token is sent as metadata besides.
client.call_credentials = None
prefix = f"/context/{context}/"


def get(key):
    value, _ = client.get(key)
    assert value is not None, f"no {key}"
    return json.loads(value)


def put(key, value):
    client.put(key, json.dumps(value))


# As EMCO's library loads a context: by its own key, whose value is in it.
assert get(prefix) in prefix
assert get(prefix + "meta/")["Project"] == "p1"
keys = [metadata.key.decode() for _, metadata in client.get_prefix(prefix)]
app = prefix + "app/web/"
clusters = sorted({key[len(app) :].split("/")[1] for key in keys if key.startswith(app + "cluster/")})
assert clusters == ["edge+c1", "edge+c2", "edge+c3"], clusters

for cluster in clusters[:2]:
    part = f"{app}cluster/{cluster}/"
    # Rewrites a manifest, which is large; adds a resource, and appends it to the order.
    manifest = get(part + "resource/big+ConfigMap/")
    put(part + "resource/big+ConfigMap/", manifest.replace("colour: red", "colour: blue"))
    put(part + "resource/added+Secret/", "kind: Secret\nmetadata: {name: added}\n" + "x" * 2000)
    order = json.loads(get(part + "resource/instruction/order/"))
    order["resorder"].append("added+Secret")
    put(part + "resource/instruction/order/", json.dumps(order))
# As placement controllers do: a cluster goes with everything in it.
client.delete_prefix(f"{app}cluster/{clusters[2]}/")

# Two transactions of which only one can win.
key = prefix + "app/web/instruction/dependency/"
outcomes = [
    client.transaction(
        compare=[client.transactions.version(key) == 0],
        success=[client.transactions.put(key, json.dumps(json.dumps([{"app": "db", "opStatus": "Ready", "wait": wait}])))],
        failure=[client.transactions.get(key)],
    )[0]
    for wait in (1, 2)
]
assert outcomes == [True, False], outcomes
print("done")
