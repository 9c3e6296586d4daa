"""What images claim about where they boot, in the words of the manual."""

from __future__ import annotations

from collections.abc import Mapping
import json
import socket
from typing import Any
import urllib.parse
import uuid

import requests

from easystack_image.policies import properties as policies
from easystack_image.properties import catalog
from tests.functional import base
from tests.functional import processes
from tests.functional import server

MEMBER = {'X-Roles': 'member,reader'}
SERVICE = MEMBER | {'X-Service-Identity-Status': 'Confirmed',
                    'X-Service-Roles': 'service',
                    'X-Service-Token': 'checked already'}
PATCH = 'application/openstack-images-v2.1-json-patch'
OLD_PATCH = 'application/openstack-images-v2.0-json-patch'


class PropertiesCase(base.SharedGlanceCase):
    """A Glance with all filters, and a place for rules."""

    options: Mapping[str, Mapping[str, object]] = {}

    @classmethod
    def make_glance(cls) -> server.Glance:
        (cls.root / 'policy.yaml').write_text('')
        (cls.root / 'policy.d').mkdir()
        return server.Glance(
            cls.root, [server.file_store('plain', cls.root / 'plain')],
            options={'oslo_policy': {
                'policy_file': cls.root / 'policy.yaml',
                'policy_dirs': cls.root / 'policy.d'}} | cls.options)

    def post(self, headers: Mapping[str, str] = MEMBER,
             **properties: Any) -> requests.Response:
        """Create an image as a member, whatever the answer."""
        return self.images.request(
            'POST', '/images', json={
                'disk_format': 'raw', 'container_format': 'bare'}
            | properties, headers=headers)

    def made(self, headers: Mapping[str, str] = MEMBER,
             **properties: Any) -> str:
        """Create an image as a member, and return its id."""
        answer = self.post(headers, **properties)
        self.assertEqual(201, answer.status_code, answer.text)
        image_id: str = answer.json()['id']
        return image_id

    def patch(self, image_id: str, *operations: Mapping[str, Any],
              form: str = PATCH, **headers: str) -> requests.Response:
        """Change an image as a member, whatever the answer."""
        return self.images.request(
            'PATCH', f'/images/{image_id}', json=operations,
            headers=MEMBER | {'Content-Type': form} | headers)

    def check_refused(self, status: int, answer: requests.Response,
                      *words: str) -> None:
        self.assertEqual(status, answer.status_code, answer.text)
        for word in words:
            self.assertIn(word, answer.text)

    def check_shown(self, image_id: str, **expected: Any) -> None:
        """Compare what Glance has; None for what there is not."""
        shown = self.images.show(image_id)
        self.assertEqual(expected, {name: shown.get(name)
                                    for name in expected})


class TestWords(PropertiesCase):

    def test_create(self) -> None:
        self.check_shown(self.made(
            os_distro='Oracle Linux', architecture='Arm',
            hypervisor_type='QEMU', shade='Arm'),
            os_distro='oraclelinux', os_type='linux',
            architecture='aarch64', hypervisor_type='qemu', shade='Arm')
        self.check_shown(self.made(os_type='Windows', architecture='X86'),
                         os_distro='windows', os_type='windows',
                         architecture='x86_64')
        self.check_shown(self.made(os_type='Ubuntu 22.04'),
                         os_distro='ubuntu', os_type='linux',
                         os_version='22.04')
        self.check_shown(self.made(os_distro='others'), os_distro='others',
                         os_type=None)
        self.check_shown(self.made(hw_architecture='AMD64',
                                   img_hv_type='KVM'),
                         hw_architecture='x86_64', img_hv_type='qemu',
                         architecture=None, hypervisor_type=None)

    def test_no_way_past_in_chunks(self) -> None:
        """Neither with chunked encoding nor with two lengths.

        Under uWSGI Glance finds no body in chunks (400), with other servers
        it does.
        """
        body = b'{"os_distro": "sparkle", "disk_format": "raw"}'
        answer = self.images.request('POST', '/images', data=iter([
            body[:9], body[9:]]), headers=MEMBER)
        self.assertEqual(400, answer.status_code, answer.text)
        place = urllib.parse.urlsplit(self.glance.url)
        for length in (0, 5, len(body)):
            chunk = b'%x\r\n%s\r\n0\r\n\r\n' % (len(body), body)
            with socket.create_connection(
                    (place.hostname, place.port), timeout=60) as connection:
                connection.sendall(
                    b'POST /v2/images HTTP/1.1\r\nHost: glance\r\n'
                    b'Content-Type: application/json\r\n'
                    b'Content-Length: %d\r\nTransfer-Encoding: chunked\r\n'
                    b'\r\n' % length + b'x' * length + chunk)
                line = connection.makefile('rb').readline()
            self.assertNotIn(b' 201 ', line)
        self.assertEqual([], self.images.request(
            'GET', '/images?os_distro=sparkle').json()['images'])

    def test_unknown(self) -> None:
        image_id = self.made()
        for name, words in (
                ('os_distro', ('CentOS', 'others', 'RedHat (rhel)')),
                ('os_type', ('CentOS', 'others')),
                ('architecture', ('Arm (aarch64)', 'x86 (x86_64)')),
                ('hw_architecture', ('Arm (aarch64)',)),
                ('hypervisor_type', ('QEMU (qemu)', 'Baremetal')),
                ('img_hv_type', ('QEMU (qemu)',))):
            self.check_refused(400, self.post(**{name: 'sparkle'}),
                               'sparkle', *words)
            for operation in ('add', 'replace'):
                self.check_refused(400, self.patch(image_id, {
                    'op': operation, 'path': f'/{name}',
                    'value': 'sparkle'}), 'sparkle', *words)
        self.check_shown(image_id, os_distro=None, architecture=None)

    def test_patch(self) -> None:
        image_id = self.made(os_distro='windows')
        answer = self.patch(
            image_id, {'op': 'replace', 'path': '/os_distro',
                       'value': 'Arch Linux'},
            {'op': 'add', 'path': '/architecture', 'value': 'x86'})
        self.assertEqual(200, answer.status_code, answer.text)
        self.check_shown(image_id, os_distro='arch', os_type='linux',
                         architecture='x86_64')
        answer = self.patch(image_id, {'replace': '/os_distro',
                                       'value': 'Windows Server 2022'},
                            form=OLD_PATCH)
        self.assertEqual(200, answer.status_code, answer.text)
        self.check_shown(image_id, os_distro='windows', os_type='windows',
                         os_version='2022')
        answer = self.patch(image_id, {'op': 'remove', 'path': '/os_distro'},
                            {'op': 'remove', 'path': '/os_type'})
        self.assertEqual(200, answer.status_code, answer.text)
        self.check_shown(image_id, os_distro=None, os_type=None)

    def test_pointers_as_glance_reads_them(self) -> None:
        """No spelling of a pointer gets past."""
        image_id = self.made()
        for path in ('/architecture', '//architecture', '/ architecture',
                     '/architecture ', '/\tarchitecture'):
            self.check_refused(400, self.patch(image_id, {
                'op': 'add', 'path': path, 'value': 'sparkle'}), 'sparkle')
        for path in ('/v2/images/', '/v2//images', '//v2/images',
                     '/v2.17/images/', '/v2/images//'):
            answer = requests.post(self.glance.url + path, json={
                'architecture': 'sparkle'}, headers=MEMBER, timeout=60)
            self.assertIn(answer.status_code, (300, 400, 404), path)
            answer = requests.patch(
                f'{self.glance.url}{path.rstrip("/")}/{image_id}/',
                json=[{'op': 'add', 'path': '/architecture',
                       'value': 'sparkle'}],
                headers=MEMBER | {'Content-Type': PATCH}, timeout=60)
            self.assertIn(answer.status_code, (300, 400, 404), path)
        self.check_shown(image_id, architecture=None)

    def test_what_glance_refuses(self) -> None:
        """Its answers are its own."""
        image_id = self.made()
        for data, status in ((b'{', 400), (b'"x"', 400),
                             (b'{"os_distro": 5}', 400),
                             (b'{"os_distro": null}', 400),
                             (b'{"os_distro": "\xff"}', 400)):
            answer = self.images.request('POST', '/images', data=data,
                                         headers=MEMBER)
            self.check_refused(status, answer)
        for patch in ([{}], ['x'], {}, [{'op': 'add'}],
                      [{'op': 'fly', 'path': '/architecture'}],
                      [{'op': 'add', 'path': '/architecture'}],
                      [{'op': 'add', 'path': 'architecture', 'value': 'x'}],
                      [{'op': 'add', 'path': '/architecture/x',
                        'value': 'x86'}],
                      [{'op': 'add', 'path': '/architecture', 'value': 1}]):
            answer = self.images.request(
                'PATCH', f'/images/{image_id}', json=patch,
                headers=MEMBER | {'Content-Type': PATCH})
            self.check_refused(400, answer)
        self.check_refused(404, self.patch(str(uuid.uuid4()), {
            'op': 'add', 'path': '/architecture', 'value': 'x86'}))

    def test_services_keep_what_was(self) -> None:
        """Nova's snapshot of a server from an image of before."""
        image_id = self.made(SERVICE, os_distro='beos',
                             architecture='x86', image_type='snapshot')
        self.check_shown(image_id, os_distro='beos',
                         architecture='x86_64')


class TestLists(PropertiesCase):

    def listed(self, query: str) -> set[str]:
        answer = self.images.request('GET', f'/images?{query}')
        self.assertEqual(200, answer.status_code, answer.text)
        return {image['id'] for image in answer.json()['images']}

    def test_filters(self) -> None:
        redhat = self.made(os_distro='RedHat 8', architecture='x86')
        arm = self.made(os_distro='Ubuntu', hw_architecture='Arm')
        old = self.made(SERVICE, os_distro='beos')
        for query, found in (
                ('os_distro=RedHat', {redhat}), ('os_distro=rhel', {redhat}),
                ('os_distro=Red%20Hat', {redhat}),
                ('os_distro=red+hat&architecture=x86', {redhat}),
                ('os_type=RedHat', {redhat}),
                ('os_distro=RedHat%208', {redhat}),
                ('os_distro=RedHat9', set()),
                ('architecture=x86_64', {redhat}),
                ('hw_architecture=ARM64', {arm}),
                ('os_type=Linux', {redhat, arm}),
                ('limit=5&os%5Fdistro=Ubuntu&sort=name:asc', {arm}),
                ('os_distro=beos', {old}), ('os_distro=nothing', set())):
            self.assertEqual(found, self.listed(query), query)

    def test_pages(self) -> None:
        made = {self.made(os_distro='Kylin') for _ in range(3)}
        found = set()
        path = '/images?os_distro=Kylin&limit=1'
        while path:
            page = self.images.request('GET', path).json()
            found |= {image['id'] for image in page['images']}
            path = page.get('next', '').removeprefix('/v2')
        self.assertEqual(made, found)


class TestCombinations(PropertiesCase):

    def test_refused(self) -> None:
        for rule, properties in (
                ('baremetal_snapshot', {'hypervisor_type': 'Baremetal',
                                        'image_type': 'snapshot'}),
                ('baremetal_snapshot', {'img_hv_type': 'Baremetal',
                                        'bdm_v2': 'true'}),
                ('os_architecture', {'os_distro': 'Windows',
                                     'architecture': 'Arm'}),
                ('disk_format', {'hypervisor_type': 'Baremetal',
                                 'disk_format': 'vmdk'}),
                ('os_type', {'os_distro': 'Debian', 'os_type': 'Windows'}),
                ('two_names', {'architecture': 'x86',
                               'hw_architecture': 'Arm'})):
            self.check_refused(400, self.post({}, **properties),
                               f'(rule {rule})')

    def test_by_steps(self) -> None:
        """Neither together nor one after the other."""
        image_id = self.made(os_distro='Windows', architecture='x86')
        self.check_refused(400, self.patch(image_id, {
            'op': 'replace', 'path': '/architecture', 'value': 'arm64'}),
            'os_architecture')
        self.check_refused(400, self.patch(image_id, {
            'op': 'add', 'path': '/hw_architecture', 'value': 'arm64'}))
        # What is no concern of the rules is not held up by them.
        answer = self.patch(image_id, {'op': 'add', 'path': '/name',
                                       'value': 'new'})
        self.assertEqual(200, answer.status_code, answer.text)


class TestOptions(PropertiesCase):

    options = {'easystack_properties': {
        'os_distro_words': 'Rocky Linux:rocky,SUSE:opensuse',
        'allowed_architectures': 'x86_64', 'refuse_unknown': False,
        'disabled_rules': 'os_architecture,os_type'}}

    def test_words(self) -> None:
        self.check_shown(self.made(os_distro='rocky-linux 9'),
                         os_distro='rocky', os_version='9')
        self.check_shown(self.made(os_distro='SUSE'), os_distro='opensuse')
        self.check_shown(self.made(os_distro='BeOS', architecture='Arm'),
                         os_distro='BeOS', architecture='Arm')
        self.check_shown(self.made(os_distro='Windows', os_type='Linux',
                                   architecture='x86'),
                         os_type='linux', architecture='x86_64')


class TestPolicy(PropertiesCase):

    def rule(self, **rules: str) -> None:
        """Override rules until the end of this test."""
        override = self.root / 'policy.d' / 'test.yaml'
        override.write_text(json.dumps({
            f'easystack_image:{name.replace("__", ":")}': rule
            for name, rule in rules.items()}))
        # A rule that is in no file any more counts until the next start.
        self.addCleanup(override.write_text, json.dumps({
            rule.name: rule.check_str for rule in policies.RULES}))

    def active(self, **properties: Any) -> str:
        image_id = self.made(**properties)
        self.assertEqual(204, self.images.put(image_id, b'x').status_code)
        return image_id

    def test_defaults(self) -> None:
        self.check_refused(403, self.post(hypervisor_type='Baremetal'),
                           'easystack_image:hypervisor_type:create')
        self.check_refused(403, self.post(img_hv_type='Baremetal'),
                           'easystack_image:hypervisor_type:create')
        self.made({}, hypervisor_type='Baremetal')
        image_id = self.made(hypervisor_type='QEMU', os_distro='Debian')
        self.check_refused(403, self.patch(image_id, {
            'op': 'replace', 'path': '/hypervisor_type',
            'value': 'bare metal'}), 'hypervisor_type:update')
        answer = self.patch(image_id, {
            'op': 'replace', 'path': '/os_distro', 'value': 'Ubuntu'})
        self.assertEqual(200, answer.status_code, answer.text)

    def test_with_data_what_is_said_stays(self) -> None:
        image_id = self.active(os_distro='Debian')
        for operation, action in (
                ({'op': 'replace', 'path': '/os_distro', 'value': 'SUSE'},
                 'os_distro:update'),
                ({'op': 'remove', 'path': '/os_distro'},
                 'os_distro:delete'),
                ({'op': 'add', 'path': '/hypervisor_type',
                  'value': 'Baremetal'}, 'hypervisor_type:create')):
            self.check_refused(403, self.patch(image_id, operation),
                               f'easystack_image:{action}')
            answer = self.patch(image_id, operation, **{
                'X-Roles': 'admin,member,reader'})
            self.assertEqual(200, answer.status_code, answer.text)
        # Where nothing is said yet, the owner may say it.
        answer = self.patch(image_id, {'op': 'add', 'path': '/architecture',
                                       'value': 'x86'})
        self.assertEqual(200, answer.status_code, answer.text)

    def test_no_change_needs_no_permission(self) -> None:
        image_id = self.active(os_distro='RedHat')
        answer = self.patch(image_id, {
            'op': 'replace', 'path': '/os_distro', 'value': 'RHEL'})
        self.assertEqual(200, answer.status_code, answer.text)

    def test_by_old_and_new_value(self) -> None:
        """Reloaded without a restart, too."""
        image_id = self.active(os_distro='Debian')
        operation = {'op': 'replace', 'path': '/os_distro', 'value': 'Ubuntu'}
        self.check_refused(403, self.patch(image_id, operation))
        self.rule(os_distro__update="'debian':%(old_value)s and "
                                    "'ubuntu':%(new_value)s and "
                                    "'os_distro':%(property)s")
        answer = processes.poll(
            lambda: (got := self.patch(image_id, operation)
                     ).status_code == 200 and got, 'the new rule')
        self.assertEqual('ubuntu', answer.json()['os_distro'])
        # The old value is another one now.
        self.check_refused(403, self.patch(image_id, {
            'op': 'replace', 'path': '/os_distro', 'value': 'SUSE'}))

    def test_word_of_ours(self) -> None:
        self.rule(architecture__create='easystack_has:bdm_v2')
        processes.poll(lambda: self.post(
            architecture='x86').status_code == 403, 'the new rule')
        self.made(architecture='x86', bdm_v2='true')

    def test_somebody_elses(self) -> None:
        image_id = self.made(os_distro='Debian')
        self.check_refused(404, self.patch(
            image_id, {'op': 'remove', 'path': '/os_distro'},
            **{'X-Project-Id': 'c0ffee00000000000000000000000009'}))


class TestSamples(PropertiesCase):
    """What deployers copy beside the filter."""

    def setUp(self) -> None:
        super().setUp()
        self.etc = processes.ROOT / 'etc'

    @classmethod
    def make_glance(cls) -> server.Glance:
        etc = processes.ROOT / 'etc'
        glance = super().make_glance()
        (cls.root / 'etc').mkdir()
        (cls.root / 'etc' / 'schema-image.json').write_text(
            (etc / 'schema-image.json.easystack-sample').read_text())
        glance.options = {**glance.options, 'DEFAULT': {
            'property_protection_file':
                etc / 'property-protections.conf.easystack-sample'}}
        return glance

    def test_schema(self) -> None:
        """Words still count; what is unknown is unknown to Glance, too."""
        self.check_shown(self.made(os_distro='RedHat', architecture='Arm',
                                   hypervisor_type='QEMU'),
                         os_distro='rhel', architecture='aarch64')
        self.check_refused(400, self.post(SERVICE, os_distro='beos'),
                           'os_distro')
        schema = self.images.request('GET', '/schemas/image').json()
        for name in (catalog.OS_DISTRO, catalog.ARCHITECTURE,
                     catalog.HYPERVISOR_TYPE, catalog.OS_TYPE):
            self.assertEqual(
                [choice.value for choice in catalog.BUILT_IN[name]],
                schema['properties'][name]['enum'])

    def test_protections_agree(self) -> None:
        """They refuse nothing that our rules allow."""
        image_id = self.made(os_distro='Debian 12', architecture='x86',
                             hypervisor_type='QEMU')
        for operation in (
                {'op': 'replace', 'path': '/os_distro', 'value': 'Ubuntu'},
                {'op': 'remove', 'path': '/architecture'},
                {'op': 'add', 'path': '/hw_architecture', 'value': 'Arm'}):
            answer = self.patch(image_id, operation)
            self.assertEqual(200, answer.status_code, answer.text)
        # And let nobody by whom ours would not.
        self.check_refused(403, self.post({'X-Roles': 'reader'},
                                          os_distro='Debian'))

    def test_metadefs(self) -> None:
        """Dashboards show an enumeration as a drop-down."""
        processes.check([
            processes.script('glance-manage'), '--config-file',
            str(self.glance.config_file), 'db_load_metadefs',
            str(self.etc / 'metadefs')])
        shown = self.images.request(
            'GET', '/metadefs/namespaces/OS::EasyStack::Image').json()
        self.assertEqual('public', shown['visibility'])
        self.assertIn('OS::Glance::Image', [
            kind['name'] for kind in shown['resource_type_associations']])
        self.assertEqual(
            {name: [choice.value for choice in catalog.BUILT_IN[name]]
             for name in (catalog.OS_DISTRO, catalog.ARCHITECTURE,
                          catalog.HYPERVISOR_TYPE)},
            {name: found['enum']
             for name, found in shown['properties'].items()})
        self.assertEqual({'string'}, {found['type'] for found in
                                      shown['properties'].values()})
