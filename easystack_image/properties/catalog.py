"""The catalogue: which values there are, and by which words they are known.

Three choices of the manual decide where an image boots: the OS type, the CPU
architecture and the virtualization type.  Each is a property of the image,
under the name that Glance documents (``doc/source/admin/useful-image-
properties.rst`` there), with a value that Nova, Ironic and Cinder compare.
``os_type`` is what Nova derives from the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any
import unicodedata

from easystack_image import exceptions

OS_DISTRO = 'os_distro'
OS_TYPE = 'os_type'
OS_VERSION = 'os_version'
ARCHITECTURE = 'architecture'
HYPERVISOR_TYPE = 'hypervisor_type'

#: The properties that the catalogue knows, in the order of the manual.
NAMES = (OS_DISTRO, OS_TYPE, ARCHITECTURE, HYPERVISOR_TYPE)
#: Nova's newer names, and what they stand for.  Nova lets them win over the
#: old ones (``nova/objects/image_meta.py``, ``_set_attr_from_current_names``).
NEWER_NAMES = {'hw_architecture': ARCHITECTURE,
               'img_hv_type': HYPERVISOR_TYPE}

BAREMETAL = 'baremetal'
QEMU = 'qemu'
WINDOWS = 'windows'
LINUX = 'linux'


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One value, and the words for it.

    :ivar value: as it is stored
    :ivar word: the manual's spelling
    :ivar aliases: further words; case, blanks, ``-``, ``_``, ``.`` and ``/``
        do not count in any of them
    :ivar os_type: Nova's name of the kind of system; '' if it has none
    """

    value: str
    word: str
    aliases: tuple[str, ...] = ()
    os_type: str = ''


_OS = (
    Choice('centos', 'CentOS', ('CentOS Linux', 'CentOS Stream'), LINUX),
    Choice(WINDOWS, 'Windows', ('Microsoft Windows', 'Windows Server',
                                'MS Windows', 'win'), WINDOWS),
    Choice('coreos', 'CoreOS', ('Fedora CoreOS', 'fcos', 'rhcos',
                                'Container Linux'), LINUX),
    Choice('debian', 'Debian', ('Debian GNU/Linux', 'Debian Linux'), LINUX),
    Choice('fedora', 'Fedora', ('Fedora Linux', 'Fedora Server'), LINUX),
    # Nova has no os_type for it.
    Choice('freebsd', 'FreeBSD', ('Free BSD',)),
    Choice('kylin', 'Kylin', ('Kylin OS', 'Kylin Linux', 'Galaxy Kylin',
                              'NeoKylin', 'Kylin Server', '麒麟', '银河麒麟'),
           LINUX),
    Choice('oraclelinux', 'Oracle Linux', ('Oracle', 'Oracle Linux Server',
                                           'OL', 'OEL'), LINUX),
    Choice('rhel', 'RedHat', ('Red Hat Enterprise Linux', 'Red Hat Linux',
                              'RedHat EL'), LINUX),
    Choice('sles', 'SUSE', ('SUSE Linux', 'SUSE Linux Enterprise',
                            'SUSE Linux Enterprise Server', 'SLE'), LINUX),
    Choice('opensuse', 'openSUSE', ('openSUSE Leap', 'openSUSE Tumbleweed'),
           LINUX),
    Choice('sled', 'SUSE Desktop', ('SUSE Linux Enterprise Desktop',), LINUX),
    Choice('ubuntu', 'Ubuntu', ('Ubuntu Linux', 'Ubuntu Server'), LINUX),
    Choice('arch', 'Arch Linux', (), LINUX),
    Choice('others', 'others', ('other', '其他')),
)
_OS_TYPES = (Choice(LINUX, 'Linux', ('GNU/Linux',)),
             Choice(WINDOWS, 'Windows', ('Microsoft Windows', 'win')))
_ARCHITECTURES = (
    Choice('aarch64', 'Arm', ('arm64', 'ARMv8', 'ARMv8-A', 'arm 64-bit')),
    Choice('x86_64', 'x86', ('amd64', 'x64', 'em64t', 'Intel 64',
                             'x86 64-bit')),
)
_HYPERVISORS = (
    # Glance and Nova have one word for QEMU with KVM and without.
    Choice(QEMU, 'QEMU', ('KVM', 'QEMU/KVM', 'QEMU-KVM', 'KVM/QEMU')),
    Choice(BAREMETAL, 'Baremetal', ('bare metal', 'ironic', '裸金属')),
)
#: What there is unless options say otherwise.
BUILT_IN: Mapping[str, Sequence[Choice]] = {
    OS_DISTRO: _OS, OS_TYPE: _OS_TYPES, ARCHITECTURE: _ARCHITECTURES,
    HYPERVISOR_TYPE: _HYPERVISORS}

_INSIGNIFICANT = re.compile(r'[\s_./-]+')
_VERSIONED = re.compile(r'(.*?[^\W\d])[\s_-]*(?:v|version)?\s*(\d[\w. -]*)',
                        re.IGNORECASE)
#: Characters; a longer text is no word of anybody's.
_LONGEST = 100


def fold(text: str) -> str:
    """Return a word without what does not count in it."""
    return _INSIGNIFICANT.sub('', unicodedata.normalize(
        'NFKC', text).casefold())


def meaning_of(name: str) -> str:
    """Return the property of the catalogue that a property stands for.

    :param name: of any property
    :returns: one of :data:`NAMES`, or '' if the catalogue has none for it
    """
    return name if name in NAMES else NEWER_NAMES.get(name, '')


class Catalogue:
    """The choices of one deployment.

    :param words: more words, by property: each with the value it stands for,
        which may be a new one; they win over the built-in words
    :param allowed: the values that may be chosen, by property; by default, or
        where it is empty, all that there are
    :raises easystack_image.exceptions.ConfigurationError: if a value is
        allowed that no word stands for
    """

    def __init__(self, words: Mapping[str, Mapping[str, str]] | None = None,
                 allowed: Mapping[str, Sequence[str]] | None = None) -> None:
        self._choices: dict[str, dict[str, Choice]] = {}
        self._words: dict[str, dict[str, str]] = {}
        for name, built_in in BUILT_IN.items():
            choices = {choice.value: choice for choice in built_in}
            known = {fold(word): choice.value for choice in built_in
                     for word in (choice.value, choice.word, *choice.aliases)}
            for word, value in ((words or {}).get(name) or {}).items():
                choices.setdefault(value, Choice(value, word))
                known |= {fold(word): value}
                known.setdefault(fold(value), value)
            chosen = list((allowed or {}).get(name) or choices)
            _check_allowed(name, chosen, choices)
            self._choices[name] = {value: choices[value] for value in chosen}
            self._words[name] = known

    def choices(self, name: str) -> Iterator[Choice]:
        """Yield what may be chosen for a property of the catalogue."""
        yield from self._choices[name].values()

    def find(self, name: str, text: str) -> Choice | None:
        """Return what a word stands for; None for a word without meaning.

        :param name: a property of the catalogue
        :param text: in any of the documented spellings
        """
        if len(text) > _LONGEST:
            return None
        value = self._words[name].get(fold(text), '')
        return self._choices[name].get(value)

    def find_version(self, text: str) -> tuple[Choice, str] | None:
        """Return the OS type and the version in one word.

        :param text: such as ``CentOS 7`` or ``ubuntu22.04``
        """
        if len(text) > _LONGEST:
            return None
        match = _VERSIONED.fullmatch(text.strip())
        choice = self.find(OS_DISTRO, match[1]) if match else None
        return (choice, match[2]) if match and choice else None

    def allowed(self, name: str) -> str:
        """Return what may be chosen, for a message."""
        return ', '.join(
            choice.value if choice.word == choice.value
            else f'{choice.word} ({choice.value})'
            for choice in self.choices(name))


def configured(options: Any) -> Catalogue:
    """Return the choices of a deployment.

    :param options: the group ``[easystack_properties]``
    :raises easystack_image.exceptions.ConfigurationError: see
        :class:`Catalogue`
    """
    return Catalogue(
        {OS_DISTRO: options.os_distro_words,
         ARCHITECTURE: options.architecture_words,
         HYPERVISOR_TYPE: options.hypervisor_type_words},
        {OS_DISTRO: options.allowed_os_distros,
         ARCHITECTURE: options.allowed_architectures,
         HYPERVISOR_TYPE: options.allowed_hypervisor_types})


def _check_allowed(name: str, chosen: Sequence[str],
                   choices: Mapping[str, Choice]) -> None:
    unknown = [value for value in chosen if value not in choices]
    if unknown:
        raise exceptions.ConfigurationError(
            f'{", ".join(unknown)} cannot be allowed for {name}: the '
            f'catalogue has {", ".join(choices)}; add words for further '
            'values')
