"""Nova as it sees images: its image service, its objects, its filter."""

from __future__ import annotations

import types
from typing import Any
import uuid

#: What hosts are, as Nova's drivers report it: architecture, hypervisor and
#: mode (nova/virt/libvirt/driver.py, nova/virt/ironic/driver.py).
HOSTS = {
    'x86': [('x86_64', 'qemu', 'hvm'), ('x86_64', 'kvm', 'hvm')],
    'arm': [('aarch64', 'qemu', 'hvm'), ('aarch64', 'kvm', 'hvm')],
    'metal-x86': [('x86_64', 'baremetal', 'hvm')],
    'metal-arm': [('aarch64', 'baremetal', 'hvm')],
}


class Scheduler:
    """Tells where Nova would start an image.

    :param url: of Glance
    """

    def __init__(self, url: str) -> None:
        # Only here: for the tests of other environments there is no Nova.
        from nova import context
        from nova import objects
        import nova.conf
        from nova.image import glance
        from nova.scheduler.filters import image_props_filter
        objects.register_all()
        nova.conf.CONF([], project='nova', default_config_files=[])
        self._objects = objects
        self._context = context.RequestContext(
            uuid.uuid4().hex, uuid.uuid4().hex, auth_token='unused')
        self._images = glance.GlanceImageServiceV2(
            glance.GlanceClientWrapper(self._context, endpoint=url))
        self._filter = image_props_filter.ImagePropertiesFilter()

    def image(self, image_id: str) -> Any:
        """Return an image as Nova's own object, read from Glance."""
        return self._objects.ImageMeta.from_dict(
            self._images.show(self._context, image_id))

    def hosts(self, image: Any) -> set[str]:
        """Return the hosts that Nova would start an image on."""
        wanted = self._objects.RequestSpec(image=image)
        return {name for name, supported in HOSTS.items()
                if self._filter.host_passes(types.SimpleNamespace(
                    supported_instances=supported, hypervisor_version=None,
                    cpu_info={}), wanted)}
