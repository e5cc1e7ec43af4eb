"""The management driver of Kubernetes clusters.

The VNFD names this file for its hooks. Drystone knows it by its name, kubernetes_mgmt.py, and runs its own driver of Kubernetes
clusters in its place; no Python is run. To use the package with another VNF manager, put that one's script of the same name here.
"""


class KubernetesMgmtDriver:
    """Stands for the built-in driver."""

    def __getattr__(self, name):
        raise NotImplementedError(
            'the hook %s is carried out by the driver that is built into Drystone' % name)
