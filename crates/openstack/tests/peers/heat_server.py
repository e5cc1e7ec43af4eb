"""A Heat, API and engine in one process: heat_server.py DIRECTORY PORT KEYSTONE_PORT DATABASE_URL CHECK_ALWAYS

Servers, ports and volumes are things of `plugins/cloud.py`, which do nothing but have ids and addresses. Prints `ready` when it
answers.
"""

import os
import shutil
import sys
import threading

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: E402

from heat.common import config, messaging  # noqa: E402
from heat.db import migration  # noqa: E402

directory, port, keystone_port, database, check_always = sys.argv[1:6]
folder = os.path.join(directory, "heat")
os.makedirs(os.path.join(folder, "environment.d"))
here = os.path.dirname(os.path.abspath(__file__))
plugins = os.path.join(folder, "plugins")
os.makedirs(plugins)
shutil.copy(os.path.join(here, "cloud_plugin.py"), os.path.join(plugins, "cloud.py"))
keystone = f"http://127.0.0.1:{keystone_port}"
paste = os.path.join(sys.prefix, "etc", "heat", "api-paste.ini")

configuration = os.path.join(folder, "heat.conf")
with open(configuration, "w") as file:
    file.write(f"""[DEFAULT]
transport_url = fake:/
deferred_auth_method = trusts
trusts_delegated_roles = heat_stack_owner
stack_user_domain_name = heat
stack_domain_admin = heat_domain_admin
stack_domain_admin_password = domain-secret
auth_encryption_key = 0123456789abcdef0123456789abcdef
environment_dir = {folder}/environment.d
plugin_dirs = {plugins}
region_name_for_services = RegionOne
convergence_engine = true
max_resources_per_stack = -1
max_stacks_per_tenant = -1
stack_action_timeout = 1200
[database]
connection = {database}
max_pool_size = 20
max_overflow = 40
[paste_deploy]
api_paste_config = {paste}
[trustee]
auth_type = password
auth_url = {keystone}
username = heat
password = heat-secret
user_domain_id = default
[keystone_authtoken]
auth_type = password
auth_url = {keystone}
www_authenticate_uri = {keystone}
token_cache_time = {-1 if check_always == "yes" else 300}
username = heat
password = heat-secret
project_name = service
user_domain_id = default
project_domain_id = default
[clients_keystone]
auth_uri = {keystone}
[oslo_concurrency]
lock_path = {folder}
""")

CONF = cfg.CONF
logging.register_options(CONF)
CONF(["--config-file", configuration], project="heat", prog="heat-api")
logging.setup(CONF, "heat")
migration.db_sync()
messaging.setup()

from heat.engine import service as engine  # noqa: E402
from heat.rpc import api as rpc_api  # noqa: E402

server = engine.EngineService(CONF.host, rpc_api.ENGINE_TOPIC)
server.start()
application = config.load_paste_app("heat-api")


class Handler(WSGIRequestHandler):
    """Keeps connections, as real servers do."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code="-", size="-"):
        """One line for each request."""
        print(self.command, self.path.split("?")[0], code, flush=True)


http = make_server("127.0.0.1", int(port), application, threaded=True, request_handler=Handler)
threading.Thread(target=http.serve_forever, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
