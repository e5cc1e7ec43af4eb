"""Servers, ports, volumes and networks that do nothing, for a Heat without Nova, Neutron and Cinder.

They take any properties, have an id and the attributes that are made from it, and can be told to fail or to take their time:
by `metadata` of a server, `fail: <reason>` and `seconds: <number>`.
"""

import time
import uuid

from heat.common import exception
from heat.engine import function, properties, resource


class Thing(resource.Resource):
    """Something with an id."""

    properties_schema = {}
    attributes_schema = {}

    def wanted(self):
        """Its properties in the template, resolved."""
        return function.resolve(self.t._properties or {}, nullable=True) or {}

    def reparse(self, client_resolve=True):
        self.properties = properties.Properties(schema={}, data={})

    def validate(self):
        pass

    def handle_create(self):
        wanted = self.wanted().get("metadata") or {}
        if wanted.get("fail"):
            raise exception.Error(wanted["fail"])
        self.resource_id_set(str(uuid.uuid4()))
        return time.time() + float(wanted.get("seconds") or 0)

    def check_create_complete(self, end):
        return time.time() >= end

    def handle_delete(self):
        return None

    def _needs_update(self, after, before, after_props, before_props, prev_resource, check_init_complete=True):
        # Only what failed, or is marked as broken, is replaced: properties of running ones do not matter here.
        if self.status == self.FAILED:
            raise resource.UpdateReplace(self.name)
        return False

    def frozen_definition(self):
        return self.t.freeze(properties=properties.Properties(schema={}, data={}))

    def _show_resource(self):
        return self.show()

    def byte(self, place):
        """A number from the id."""
        return uuid.UUID(self.resource_id).bytes[place]


class Server(Thing):
    """A server that is always well."""

    def show(self):
        return {
            "id": self.resource_id,
            "name": self.wanted().get("name") or self.physical_resource_name(),
            "status": "ACTIVE",
            "OS-EXT-AZ:availability_zone": self.wanted().get("availability_zone") or "nova",
            "OS-EXT-SRV-ATTR:host": f"compute-{self.byte(0) % 4}",
        }


class Port(Thing):
    """A port with one address."""

    def show(self):
        return {
            "id": self.resource_id,
            "network_id": str(self.wanted().get("network")),
            "mac_address": "fa:16:3e:%02x:%02x:%02x" % (self.byte(0), self.byte(1), self.byte(2)),
            "fixed_ips": [
                {"subnet_id": "subnet", "ip_address": "10.%d.%d.%d" % (self.byte(0), self.byte(1), self.byte(2) | 1)}
            ],
        }


class Volume(Thing):
    """A volume that nobody has."""

    def show(self):
        return {"id": self.resource_id, "size": self.wanted().get("size"), "attachments": []}


class Net(Thing):
    """A network."""

    def show(self):
        return {"id": self.resource_id}


def resource_mapping():
    return {
        "OS::Nova::Server": Server,
        "OS::Neutron::Port": Port,
        "OS::Neutron::Net": Net,
        "OS::Neutron::Subnet": Net,
        "OS::Cinder::Volume": Volume,
    }
