"""Which addresses may be connected to."""

from __future__ import annotations

import testtools

from easystack_image.conf import content
from easystack_image.content import addresses


class NetworksTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.networks = addresses.Networks.of(content.DENIED_NETWORKS, [])

    def test_denied(self) -> None:
        for address in (
                '127.0.0.1', '127.255.255.254', '0.0.0.1', '10.0.0.1',
                '172.16.0.1', '172.31.255.255', '192.168.1.1',
                '169.254.169.254', '100.64.0.1', '192.0.0.8', '198.18.0.1',
                '224.0.0.1', '255.255.255.255', '240.0.0.1', '192.0.2.1',
                '::', '::1', 'fe80::1', 'fe80::1%eth0', 'fd00::1',
                'ff02::1', 'fec0::1', '2001:db8::1', '100::1', '2001::1',
                # An address of IPv4, carried in one of IPv6.
                '::ffff:127.0.0.1', '::ffff:a9fe:a9fe', '::127.0.0.1',
                '64:ff9b::127.0.0.1', '64:ff9b::8.8.8.8',
                '2002:7f00:1::', '2002:a9fe:a9fe::1', '64:ff9b:1::1'):
            self.assertFalse(self.networks.permit(address), address)

    def test_permitted(self) -> None:
        for address in ('8.8.8.8', '1.1.1.1', '172.32.0.1', '100.128.0.1',
                        '2606:4700::1111', '::ffff:8.8.8.8'):
            self.assertTrue(self.networks.permit(address), address)

    def test_exceptions(self) -> None:
        networks = addresses.Networks.of(
            content.DENIED_NETWORKS, ['10.1.0.0/16', '64:ff9b::/96'])
        for address in ('10.1.2.3', '::ffff:10.1.2.3', '64:ff9b::8.8.8.8',
                        '64:ff9b::10.1.2.3'):
            self.assertTrue(networks.permit(address), address)
        # What is allowed to carry does not make the load permitted.
        for address in ('10.2.0.1', '64:ff9b::127.0.0.1',
                        '64:ff9b::169.254.169.254'):
            self.assertFalse(networks.permit(address), address)

    def test_no_networks(self) -> None:
        for network in ('10.0.0.1/8', 'example.org', '', '10.0.0.0/33'):
            self.assertRaises(ValueError, addresses.Networks.of, [network],
                              [])
