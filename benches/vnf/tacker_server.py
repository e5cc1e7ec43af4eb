"""A Tacker, API and conductor in one process: tacker_server.py DIRECTORY PORT [INSTANCES]

Everything lies in DIRECTORY, the database in memory. Whoever asks is an administrator. With INSTANCES there are so many VNF instances to
begin with, named `measured-<number>`, which have done nothing. Prints `ready` when it answers.
"""

import eventlet

eventlet.monkey_patch()

import os  # noqa: E402
import sys  # noqa: E402
import uuid  # noqa: E402

directory, port = sys.argv[1:3]
instances = int(sys.argv[3]) if len(sys.argv) > 3 else 0
folder = os.path.join(directory, "tacker")
for name in ["images", "packages", "cache", "keys", "locks"]:
    os.makedirs(os.path.join(folder, name))

# The programs' own file, with one filter more: it says who asks, as the one that talks to Keystone would.
with open(os.path.join(sys.prefix, "etc", "tacker", "api-paste.ini")) as file:
    paste = file.read()
paste = paste.replace("\nnoauth = request_id catch_errors ", "\nnoauth = request_id catch_errors stranger keystonecontext ")
paste += "\n[filter:stranger]\npaste.filter_factory = tacker_server_filter:factory\n"
with open(os.path.join(folder, "api-paste.ini"), "w") as file:
    file.write(paste)


class Stranger:
    """Makes an administrator of whoever asks."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        environ["HTTP_X_USER_ID"] = environ["HTTP_X_PROJECT_ID"] = "b8f2a1c0-6a2f-4c3e-9a57-0d2b1f3c4d5e"
        environ["HTTP_X_ROLES"] = "admin"
        return self.application(environ, start_response)


module = type(sys)("tacker_server_filter")
module.factory = lambda everywhere, **here: Stranger
sys.modules["tacker_server_filter"] = module

configuration = os.path.join(folder, "tacker.conf")
with open(configuration, "w") as file:
    file.write(f"""[DEFAULT]
transport_url = fake:/
auth_strategy = noauth
bind_host = 127.0.0.1
bind_port = {port}
api_workers = 0
rpc_workers = 0
api_paste_config = {folder}/api-paste.ini
state_path = {folder}
[database]
connection = sqlite://
[coordination]
backend_url = file:///{folder}/locks
[oslo_concurrency]
lock_path = {folder}/locks
[glance_store]
filesystem_store_datadir = {folder}/images
[vnf_package]
vnf_package_csar_path = {folder}/packages
[v2_vnfm]
endpoint = http://127.0.0.1:{port}
[v2_nfvo]
test_callback_uri = false
vnf_package_cache_dir = {folder}/cache
[vim_keys]
openstack = {folder}/keys
""")

from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_service import service as launching  # noqa: E402
import oslo_messaging  # noqa: E402

from tacker import objects, service  # noqa: E402
from tacker.common import config, topics  # noqa: E402
from tacker.conductor import conductor_server  # noqa: E402
from tacker.db import api, model_base  # noqa: E402
from tacker.db.migration.models import head  # noqa: E402,F401
from tacker.sol_refactored import objects as sol_objects  # noqa: E402
from tacker.sol_refactored.common import vnf_instance_utils  # noqa: E402,F401
from tacker.vnfm import vim_client  # noqa: E402,F401

oslo_messaging.set_transport_defaults(control_exchange="tacker")
config.init(["--config-file", configuration])
objects.register_all()
sol_objects.register_all()
logging.setup(cfg.CONF, "tacker")
model_base.BASE.metadata.create_all(api.get_engine())

if instances:
    from tacker import context
    from tacker.sol_refactored.objects.v2 import vnf_instance

    everybody = context.get_admin_context()
    for number in range(instances):
        vnf_instance.VnfInstanceV2(
            id=str(uuid.uuid4()),
            vnfInstanceName=f"measured-{number}",
            vnfdId="6f1a54d2-3a0e-4d0b-9a55-5d5f3d2b0a01",
            vnfProvider="Drystone",
            vnfProductName="Measured",
            vnfSoftwareVersion="1.0",
            vnfdVersion="1.0",
            instantiationState="NOT_INSTANTIATED",
        ).create(everybody)

conductor = service.Service.create(
    binary="tacker-conductor",
    topic=topics.TOPIC_CONDUCTOR,
    manager="tacker.conductor.conductor_server.Conductor",
)
conductor.start()
front = service.serve_wsgi(service.TackerApiService)
front.start()
print("ready", flush=True)
front.wait()
