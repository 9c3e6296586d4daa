"""What ordinary clients make of errors in the one form."""

from __future__ import annotations

import uuid

from openstack import exceptions

from tests.deployment import base


class TestMessages(base.DeploymentCase):

    def test_python_glanceclient(self) -> None:
        """It finds the message, where Glance's flat form makes it fail."""
        # "tox -e py3" loads this module, and has no such client.
        from glanceclient import exc
        from glanceclient.v2 import client as glance_client

        images = glance_client.Client(
            session=self.deployment.session('member'),
            endpoint_override=self.deployment.url).images
        image_id = str(uuid.uuid4())
        error = self.assertRaises(exc.HTTPNotFound, images.get, image_id)
        self.assertIn(image_id, str(error))
        error = self.assertRaises(exc.HTTPForbidden, images.create,
                                  visibility='public')
        self.assertIn('publicize_image', str(error))
        error = self.assertRaises(exc.HTTPBadRequest, list, images.list(
            filters={'properties': 'x'}))
        self.assertIn('"properties"', str(error))

    def test_openstacksdk(self) -> None:
        image = self.deployment.sdk('member').image
        image_id = str(uuid.uuid4())
        error = self.assertRaises(exceptions.NotFoundException,
                                  image.get_image, image_id)
        self.assertIn(image_id, str(error))
        error = self.assertRaises(
            exceptions.ConflictException, image.update_image,
            self.deactivated(), name='new')
        self.assertIn('deactivated', str(error))

    def deactivated(self) -> str:
        image_id = self.upload(b'data')
        self.client('admin').request(
            'POST', f'/images/{image_id}/actions/deactivate')
        return image_id
