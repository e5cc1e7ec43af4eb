"""A Keystone with a database of its own: keystone_server.py DIRECTORY PORT HEAT_PORT TOKEN_SECONDS

Made for tests: one process, nothing of it outlives the directory. Prints `ready` when it answers.
"""

import io
import json
import os
import sys
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

import keystone.conf
from keystone.cmd import bootstrap
from keystone.common import fernet_utils
from keystone.common.sql import upgrades
from keystone.server.flask import core

directory, port, heat_port, token_seconds = sys.argv[1:5]
del sys.argv[1:]
folder = os.path.join(directory, "keystone")
os.makedirs(folder)
url = f"http://127.0.0.1:{port}/v3"
heat = f"http://127.0.0.1:{heat_port}"

configuration = os.path.join(folder, "keystone.conf")
with open(configuration, "w") as file:
    file.write(f"""[database]
connection = sqlite:///{folder}/keystone.sqlite
[token]
provider = fernet
expiration = {token_seconds}
allow_expired_window = 0
[cache]
enabled = false
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[security_compliance]
lockout_failure_attempts = 100
[identity]
password_hash_rounds = 4
""")

CONF = keystone.conf.CONF


def prepare():
    """Called when the configuration is read: keys and tables."""
    for repository, keys, group in [
        (CONF.fernet_tokens.key_repository, CONF.fernet_tokens.max_active_keys, "fernet_tokens"),
        (CONF.credential.key_repository, 3, "credential"),
    ]:
        keys = fernet_utils.FernetUtils(repository, keys, group)
        keys.create_key_directory()
        keys.initialize_key_repository()
    upgrades.offline_sync_database_to_version()


application = core.initialize_application("public", post_log_configured_function=prepare, config_files=[configuration])

# The backends are there already; they cannot be loaded twice.
bootstrap.backends.load_backends = lambda: None
first = bootstrap.Bootstrapper()
first.admin_username, first.admin_password = "admin", "admin-secret"
first.project_name, first.admin_role_name, first.service_name = "admin", "admin", "keystone"
first.region_id = "RegionOne"
first.public_url = first.internal_url = first.admin_url = url
first.bootstrap()


class Handler(WSGIRequestHandler):
    """Keeps connections, as real servers do."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code="-", size="-"):
        """One line for each request: tests count the tokens."""
        print(self.command, self.path.split("?")[0], code, flush=True)


def telling(environ, start_response):
    """Says in the log for whom a token is asked: Heat asks for some of its own."""
    if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"].endswith("/auth/tokens"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            print("token for", json.loads(body)["auth"]["identity"]["password"]["user"].get("name"), flush=True)
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
    return application(environ, start_response)


server = make_server("127.0.0.1", int(port), telling, threaded=True, request_handler=Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

# Users, projects and the catalog, by the API that has just begun to answer.
import requests  # noqa: E402

session = requests.Session()
session.trust_env = False
scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
user = {"name": "admin", "domain": {"id": "default"}, "password": "admin-secret"}
identity = {"methods": ["password"], "password": {"user": user}}


def call(method, path, **more):
    """Calls the API as the administrator, whose token may have ended on a slow machine."""
    for _ in range(20):
        answer = session.request(method, f"{url}{path}", **more)
        if answer.status_code != 401:
            break
        given = session.post(f"{url}/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        given.raise_for_status()
        session.headers["X-Auth-Token"] = given.headers["X-Subject-Token"]
    if not answer.ok:
        sys.exit(f"{method} {path}: {answer.text}")
    return answer


def make(kind, **fields):
    """Makes something, and returns its id."""
    return call("POST", f"/{kind}s", json={kind: fields}).json()[kind]["id"]


def grant(scope, user, role):
    """Gives a role."""
    call("PUT", f"/{scope}/users/{user}/roles/{role}")


def role(name):
    """The id of a role."""
    return call("GET", "/roles", params={"name": name}).json()["roles"][0]["id"]


admin = role("admin")
owner = make("role", name="heat_stack_owner")
make("role", name="heat_stack_user")
service = make("project", name="service", domain_id="default")
nfv = make("project", name="nfv", domain_id="default")
heat_user = make("user", name="heat", domain_id="default", password="heat-secret")
nfv_user = make("user", name="nfv_user", domain_id="default", password="devstack-secret")
grant(f"projects/{service}", heat_user, admin)
for given in [owner, role("member")]:
    grant(f"projects/{nfv}", nfv_user, given)
domain = make("domain", name="heat")
domain_admin = make("user", name="heat_domain_admin", domain_id=domain, password="domain-secret")
grant(f"domains/{domain}", domain_admin, admin)

for kind, address in [
    ("orchestration", f"{heat}/v1/%(project_id)s"),
    # Heat looks these up in the catalog; nobody is there.
    ("image", heat),
    ("compute", heat),
    ("network", heat),
    ("volumev3", heat),
]:
    number = make("service", type=kind, name=kind)
    for interface in ["public", "internal"]:
        make("endpoint", service_id=number, interface=interface, region_id="RegionOne", url=address)

print("ready", flush=True)
threading.Event().wait()
