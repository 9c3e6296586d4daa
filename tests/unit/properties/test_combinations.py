"""What cannot boot, and what can."""

from __future__ import annotations

import itertools

import testtools

from easystack_image import exceptions
from easystack_image.properties import catalog
from easystack_image.properties import combinations

REFUSED = {
    'baremetal_snapshot': [
        {'hypervisor_type': 'baremetal', 'image_type': 'snapshot'},
        {'img_hv_type': 'baremetal', 'image_type': 'backup'},
        {'hypervisor_type': 'baremetal', 'bdm_v2': 'true'},
        {'hypervisor_type': 'baremetal', 'block_device_mapping': '[]'}],
    'os_architecture': [
        {'os_distro': 'windows', 'architecture': 'aarch64'},
        {'os_distro': 'windows', 'hw_architecture': 'aarch64'}],
    'disk_format': [
        {'hypervisor_type': 'baremetal', 'disk_format': 'vmdk'},
        {'hypervisor_type': 'qemu', 'disk_format': 'ploop'}],
    'os_type': [
        {'os_distro': 'windows', 'os_type': 'linux'},
        {'os_distro': 'ubuntu', 'os_type': 'windows'}],
    'two_names': [
        {'architecture': 'x86_64', 'hw_architecture': 'aarch64'},
        {'hypervisor_type': 'qemu', 'img_hv_type': 'baremetal'}],
}
#: Nothing that anybody boots is refused.
ACCEPTED = [
    {}, {'disk_format': None, 'architecture': None},
    {'hypervisor_type': 'qemu', 'image_type': 'snapshot'},
    {'hypervisor_type': 'baremetal', 'image_type': 'image'},
    {'os_distro': 'windows', 'os_type': 'windows', 'architecture': 'x86_64',
     'hypervisor_type': 'baremetal', 'disk_format': 'iso'},
    {'os_distro': 'freebsd', 'os_type': 'linux'},
    {'os_distro': 'others', 'os_type': 'windows'},
    {'architecture': 'x86_64', 'hw_architecture': 'x86_64'},
    {'hypervisor_type': 'sparkle', 'disk_format': 'ploop',
     'architecture': 5, 'os_distro': ['x']},
]


class CombinationsTest(testtools.TestCase):

    def test_each_rule(self) -> None:
        self.assertEqual(set(combinations.RULES), set(REFUSED))
        for rule, images in REFUSED.items():
            for image in images:
                error = self.assertRaises(exceptions.InvalidRequest,
                                          combinations.check, image)
                self.assertIn(f'(rule {rule})', str(error))
                # It alone says no, and can be switched off.
                combinations.check(image, [rule])

    def test_accepted(self) -> None:
        for image in ACCEPTED:
            combinations.check(image)

    def test_manual(self) -> None:
        """All choices and formats of the manual go together, but these."""
        refused = set()
        for distro, architecture, kind, disk_format in itertools.product(
                *([choice.value for choice in catalog.BUILT_IN[name]]
                  for name in (catalog.OS_DISTRO, catalog.ARCHITECTURE,
                               catalog.HYPERVISOR_TYPE)),
                ('iso', 'qcow2', 'raw')):
            try:
                combinations.check({
                    'os_distro': distro, 'architecture': architecture,
                    'hypervisor_type': kind, 'disk_format': disk_format})
            except exceptions.InvalidRequest:
                refused.add((distro, architecture))
        self.assertEqual({('windows', 'aarch64')}, refused)

    def test_rules_look_at_these(self) -> None:
        """What no rule looks at needs no check."""
        for image in itertools.chain(*REFUSED.values()):
            self.assertLessEqual(set(image), combinations.NAMES)
