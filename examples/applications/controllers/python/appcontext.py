"""An AppContext in etcd, read as a whole and changed by compare-and-swap.

The layout is EMCO's: keys below /context/<id>/ that end in a slash, JSON values, and JSON texts inside of JSON strings.
"""

import json
import pathlib
import random
import sys
import time

import grpc

HERE = pathlib.Path(__file__).parent
PAGE = 500
# etcd takes 128 operations in a transaction.
OPERATIONS = 100
TRIES = 20


def load(name):
    """Messages and stubs of a .proto file beside this one."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    return grpc.protos_and_services(name)


etcd, etcd_services = load("etcd.proto")


class Conflict(Exception):
    """Somebody else has changed what was read."""


class Unknown(Exception):
    """There is no such AppContext."""


class Store:
    """The key-value store that AppContexts are in. With a name and a password, etcd is asked for a token, and again when that is old."""

    def __init__(self, target, name=None, password=None, ca=None):
        if ca:
            self.channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes()))
        else:
            self.channel = grpc.insecure_channel(target)
        self.kv, self.auth = etcd_services.KVStub(self.channel), etcd_services.AuthStub(self.channel)
        self.user = etcd.AuthenticateRequest(name=name, password=password) if name else None
        self.metadata = []

    def call(self, method, request):
        try:
            return method(request, timeout=5, metadata=self.metadata)
        except grpc.RpcError as error:
            if not self.user or error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise
        self.metadata = [("token", self.auth.Authenticate(self.user, timeout=5).token)]
        return method(request, timeout=5, metadata=self.metadata)

    def read(self, prefix):
        """Every pair below a prefix, at one revision."""
        begin, end, revision = prefix.encode(), prefix.encode()[:-1] + b"0", 0
        while True:
            request = etcd.RangeRequest(key=begin, range_end=end, limit=PAGE, revision=revision)
            answer = self.call(self.kv.Range, request)
            revision = revision or answer.header.revision
            yield from answer.kvs
            if not answer.more:
                return
            begin = answer.kvs[-1].key + b"\0"

    def commit(self, compare, operations):
        request = etcd.TxnRequest(compare=compare, success=operations)
        if not self.call(self.kv.Txn, request).succeeded:
            raise Conflict


class AppContext:
    """What was read of an AppContext, and what is to be changed in it."""

    def __init__(self, store, number):
        self.store, self.root = store, f"/context/{number}/"
        self.values, self.revisions = {}, {}
        for pair in store.read(self.root):
            key = pair.key.decode()[len(self.root):]
            self.values[key], self.revisions[key] = json.loads(pair.value), pair.mod_revision
        if "" not in self.values:
            raise Unknown(f"there is no AppContext {number}")
        self.changed, self.removed = {}, []

    @property
    def meta(self):
        return self.values.get("meta/", {})

    def apps(self):
        return sorted({key.split("/")[1] for key in self.values if key.startswith("app/")} - {"instruction"})

    def clusters(self, app):
        """Names of an app's clusters, "provider+cluster"."""
        head = f"app/{app}/cluster/"
        return sorted({key[len(head):].split("/")[0] for key in self.values if key.startswith(head)} - {""})

    def resources(self, app, cluster):
        """Manifests of what goes to a cluster, by "name+Kind"."""
        head = f"app/{app}/cluster/{cluster}/resource/"
        named = ((key[len(head):], value) for key, value in self.values.items() if key.startswith(head))
        return {key[:-1]: value for key, value in named if key.count("/") == 1 and not key.startswith("instruction/")}

    def put_resource(self, app, cluster, name, manifest):
        """Writes a manifest; a resource that is new is the last in the order."""
        head = f"app/{app}/cluster/{cluster}/resource/"
        if f"{head}{name}/" not in self.values:
            order = json.loads(self.values.get(f"{head}instruction/order/", '{"resorder":[]}'))
            order["resorder"] = [*(order["resorder"] or []), name]
            self._put(f"{head}instruction/order/", json.dumps(order))
        self._put(f"{head}{name}/", manifest)

    def remove_cluster(self, app, cluster):
        self.removed.append(f"app/{app}/cluster/{cluster}/")

    def _put(self, key, value):
        if self.values.get(key) != value:
            self.values[key] = value
            self.changed[key] = value

    def commit(self):
        """Writes what has changed, if nobody else has changed it since it was read."""
        changes = [(key, self._operation(key, value)) for key, value in self.changed.items()]
        changes += [(key, self._deletion(key)) for key in self.removed]
        # The context's own key is written with every change, so that others notice it.
        root = self.revisions[""]
        for begin in range(0, len(changes), OPERATIONS):
            part = changes[begin:begin + OPERATIONS]
            compare = [self._unchanged(key, self.revisions.get(key, 0)) for key, _ in part]
            operations = [operation for _, operation in part]
            if begin == 0:
                compare.append(self._unchanged("", root))
                operations.append(self._operation("", self.values[""]))
            self.store.commit(compare, operations)

    def _unchanged(self, key, revision):
        return etcd.Compare(key=(self.root + key).encode(), target=2, mod_revision=revision)

    def _operation(self, key, value):
        put = etcd.PutRequest(key=(self.root + key).encode(), value=json.dumps(value).encode())
        return etcd.RequestOp(request_put=put)

    def _deletion(self, key):
        begin = (self.root + key).encode()
        return etcd.RequestOp(request_delete_range=etcd.DeleteRangeRequest(key=begin, range_end=begin[:-1] + b"0"))


def edit(store, number, change):
    """Reads an AppContext, has it changed, and writes it; again if somebody else was quicker."""
    for attempt in range(TRIES):
        context = AppContext(store, number)
        outcome = change(context)
        try:
            context.commit()
            return outcome
        except Conflict:
            time.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 6)))
    raise Conflict(f"AppContext {number} is being changed by others all the time")
