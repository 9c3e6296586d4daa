"""Combinations of properties with which no machine would start.

Each rule has a name, by which a deployer can switch it off, and looks at the
image as it would be, in canonical values.  What an image does not say is no
reason to refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from easystack_image import exceptions
from easystack_image.properties import catalog

Image = Mapping[str, Any]

#: What Nova marks images of servers with (``nova/compute/api.py``).
SNAPSHOT_TYPES = ('snapshot', 'backup')
SNAPSHOT_MARKS = ('bdm_v2', 'block_device_mapping')
#: Systems that exist for few architectures.
ARCHITECTURES = {catalog.WINDOWS: ('x86_64',)}
#: By virtualization type: what Ironic deploys by default ([conductor]
#: permitted_image_formats, and kernel and ramdisk apart), and what Nova's
#: libvirt driver starts with QEMU: all of Glance's formats but ploop.
DISK_FORMATS = {
    catalog.BAREMETAL: ('raw', 'qcow2', 'iso', 'ami', 'aki', 'ari'),
    catalog.QEMU: ('raw', 'qcow2', 'iso', 'ami', 'aki', 'ari', 'vmdk', 'vdi',
                   'vhd', 'vhdx'),
}


def effective(image: Image, name: str) -> Any:
    """Return what Nova takes for a property: the newer name's value wins."""
    for newer, older in catalog.NEWER_NAMES.items():
        if older == name and image.get(newer) is not None:
            return image[newer]
    return image.get(name)


def _baremetal_snapshot(image: Image) -> str:
    if effective(image, catalog.HYPERVISOR_TYPE) != catalog.BAREMETAL:
        return ''
    if image.get('image_type') in SNAPSHOT_TYPES or any(
            mark in image for mark in SNAPSHOT_MARKS):
        return ('a snapshot of a server cannot be started on bare metal: '
                'set hypervisor_type to qemu, or leave it out')
    return ''


def _os_architecture(image: Image) -> str:
    distro = image.get(catalog.OS_DISTRO)
    architecture = effective(image, catalog.ARCHITECTURE)
    known = ARCHITECTURES.get(str(distro))
    if known and architecture is not None and architecture not in known:
        return (f'there is no {distro} for {architecture}: set architecture '
                f'to {" or ".join(known)}')
    return ''


def _disk_format(image: Image) -> str:
    kind = effective(image, catalog.HYPERVISOR_TYPE)
    disk_format = image.get('disk_format')
    known = DISK_FORMATS.get(str(kind))
    if known and disk_format is not None and disk_format not in known:
        return (f'{kind} cannot start from disk_format {disk_format}: '
                f'convert the image to one of {", ".join(known[:3])}')
    return ''


def _os_type(image: Image) -> str:
    distro, kind = image.get(catalog.OS_DISTRO), image.get(catalog.OS_TYPE)
    expected = {choice.value: choice.os_type
                for choice in catalog.BUILT_IN[catalog.OS_DISTRO]}.get(
                    str(distro), '')
    if kind is None or not expected or kind == expected:
        return ''
    return (f'os_type {kind} does not go with os_distro {distro}: set it to '
            f'{expected}, or leave it out')


def _two_names(image: Image) -> str:
    for newer, older in catalog.NEWER_NAMES.items():
        one, other = image.get(newer), image.get(older)
        if one is not None and other is not None and one != other:
            return (f'{newer} {one} contradicts {older} {other}: give one of '
                    'them, or both the same')
    return ''


#: The rules, by the names that options use.
RULES: Mapping[str, Callable[[Image], str]] = {
    'baremetal_snapshot': _baremetal_snapshot,
    'os_architecture': _os_architecture,
    'disk_format': _disk_format,
    'os_type': _os_type,
    'two_names': _two_names,
}
#: The properties that any rule looks at.
NAMES = frozenset({*catalog.NAMES, *catalog.NEWER_NAMES, 'disk_format',
                   'image_type', *SNAPSHOT_MARKS})


def check(image: Image, disabled: Collection[str] = ()) -> None:
    """See that an image could boot, as far as its properties tell.

    :param image: all its attributes, in canonical values
    :param disabled: names of rules to leave out
    :raises easystack_image.exceptions.InvalidRequest: naming the rule, what
        contradicts, and what to do
    """
    for name, rule in RULES.items():
        reason = '' if name in disabled else rule(image)
        if reason:
            raise exceptions.InvalidRequest(
                f'This image could not boot: {reason} (rule {name})')
