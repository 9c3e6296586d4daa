"""What the tests against the deployment have in common."""

from __future__ import annotations

from typing import ClassVar

from tests.deployment import deployment as deployment_module
from tests.functional import base
from tests.functional import client


class DeploymentCase(base.TestCase):
    """Tests that share one deployment, because they leave it as it was."""

    deployment: ClassVar[deployment_module.Deployment]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.deployment = deployment_module.shared()

    def setUp(self) -> None:
        super().setUp()
        self.show_log_of(self.deployment.glance)
        self.images = self.deployment.client('member')

    def client(self, user: str) -> client.Images:
        """Return the calls of another user."""
        return self.deployment.client(user)

    def create(self, **properties: object) -> str:
        """Create an image of the member's, for this test, without data."""
        image_id = self.images.create(**properties)
        self.addCleanup(self.remove, image_id)
        return image_id

    def upload(self, data: bytes, **properties: object) -> str:
        """Create an image of the member's, for this test."""
        image_id = self.create(**properties)
        self.assertEqual(204, self.images.put(image_id, data).status_code)
        return image_id

    def remove(self, image_id: str) -> None:
        """Delete an image as the administrator, if it is still there."""
        answer = self.client('admin').request('DELETE', f'/images/{image_id}')
        self.assertIn(answer.status_code, (204, 404), answer.text)
