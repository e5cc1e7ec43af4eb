"""Parameters of the stack of a Kubernetes cluster.

Drystone has a built-in equivalent of this class and does not run this file. Other VNF managers call `instantiate` with the templates (by
name; the top one is 'heat_template'), the VNFD, the request and the grant.
"""

try:
    from tacker.vnfm.lcm_user_data.abstract_user_data import AbstractUserData
except ImportError:
    AbstractUserData = object

SERVER_LIKE = ('OS::Nova::Server', 'OS::Neutron::Port', 'OS::Cinder::Volume')


def _properties(resource):
    """Properties of a resource in which parameters are looked for."""
    properties = resource.get('properties') or {}
    if resource.get('type') == 'OS::Heat::AutoScalingGroup':
        return [properties.get('resource', {}).get('properties') or {}]
    if resource.get('type') not in SERVER_LIKE:
        return []
    return [properties] + list(properties.get('block_device_mapping_v2') or [])


def _names(templates):
    """Names of VDUs and of connection points that templates ask `nfv` for."""
    found = {'VDU': {}, 'CP': {}}
    for template in templates.values():
        if 'nfv' not in (template.get('parameters') or {}):
            continue
        for resource in (template.get('resources') or {}).values():
            for properties in _properties(resource):
                for value in properties.values():
                    path = value.get('get_param') if isinstance(value, dict) else None
                    if isinstance(path, list) and len(path) == 4 and path[1] in found:
                        found[path[1]].setdefault(path[2], {})
    return found


def _fixed_ips(ext_cp):
    addresses = []
    for config in ext_cp.cp_config or []:
        for protocol in config.cp_protocol_data or []:
            if not protocol.ip_over_ethernet:
                continue
            for address in protocol.ip_over_ethernet.ip_addresses or []:
                wanted = {}
                if address.subnet_id:
                    wanted['subnet'] = address.subnet_id
                if address.fixed_addresses:
                    wanted['ip_address'] = address.fixed_addresses[-1]
                if wanted:
                    addresses.append(wanted)
    return addresses


class KubernetesClusterUserData(AbstractUserData):
    """Flavor, image and networks of all nodes."""

    @staticmethod
    def instantiate(base_hot_dict=None, vnfd_dict=None, inst_req_info=None, grant_info=None):
        nfv = _names(base_hot_dict)
        nodes = vnfd_dict['topology_template']['node_templates']
        for name, values in nfv['VDU'].items():
            node = nodes.get(name, {})
            compute = node.get('capabilities', {}).get('virtual_compute', {}).get('properties', {})
            extra = compute.get('requested_additional_capabilities', {}).get('properties', {})
            values['flavor'] = extra.get('requested_additional_capability_name')
            values['image'] = node.get('properties', {}).get('sw_image_data', {}).get('name')
        for link in inst_req_info.ext_virtual_links or []:
            for ext_cp in link.ext_cps or []:
                if ext_cp.cpd_id in nfv['CP']:
                    nfv['CP'][ext_cp.cpd_id] = {
                        'network': link.resource_id, 'fixed_ips': _fixed_ips(ext_cp)}
        parameters = {'nfv': nfv}
        given = inst_req_info.additional_params or {}
        for name in base_hot_dict['heat_template'].get('parameters') or {}:
            if given.get(name):
                parameters[name] = given[name]
        return parameters
