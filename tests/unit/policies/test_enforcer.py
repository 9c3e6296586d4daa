"""Our rules, and how deployers override them."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sysconfig
from typing import Any

import fixtures
from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_policy import policy
import testtools
import yaml

from easystack_image import policies
from easystack_image.policies import copies
from easystack_image.policies import enforcer

ROOT = Path(__file__).parents[3]
IMAGE = {'id': 'x', 'owner': 'mine', 'visibility': 'private',
         'os_distro': 'debian'}


def request(*roles: str, **arguments: Any) -> oslo_context.RequestContext:
    return oslo_context.RequestContext(
        roles=list(roles), overwrite=False,
        **{'project_id': 'mine', **arguments})


class EnforcerTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        (self.root / 'policy.d').mkdir()
        self.rules({})
        self.conf = cfg.ConfigOpts()
        self.conf(['--config-dir', str(self.root)], project='glance',
                  default_config_files=[], default_config_dirs=[])
        self.enforcer = enforcer.Enforcer(self.conf)

    def rules(self, rules: dict[str, str], name: str = 'policy.yaml') -> None:
        (self.root / name).write_text(yaml.safe_dump(rules))

    def permits(self, context: Any, rule: str = copies.GET) -> bool:
        return self.enforcer.permits(context, rule, IMAGE)

    def test_defaults(self) -> None:
        for rule in (copies.GET, copies.VERIFY):
            self.assertTrue(self.permits(request('admin'), rule))
            for roles in ((), ('member', 'reader'), ('manager',)):
                self.assertFalse(self.permits(request(*roles), rule))

    def test_who_is_an_administrator(self) -> None:
        """Glance's own rule says it, and ours follow."""
        self.rules({'context_is_admin': 'role:boss'})
        self.assertTrue(self.permits(request('boss')))
        self.assertFalse(self.permits(request('admin')))

    def test_override(self) -> None:
        self.rules({copies.GET: 'role:reader'})
        self.assertTrue(self.permits(request('reader')))
        self.assertFalse(self.permits(request('reader'), copies.VERIFY))

    def test_override_in_policy_d(self) -> None:
        self.rules({copies.VERIFY: 'role:auditor',
                    'get_image': '!', 'not_ours': 'rule:default'},
                   'policy.d/easystack-image.yaml')
        self.assertTrue(self.permits(request('auditor'), copies.VERIFY))
        self.assertFalse(self.permits(request('auditor'), copies.GET))

    def test_target(self) -> None:
        self.rules({copies.GET: 'project_id:%(project_id)s'})
        self.assertTrue(self.permits(request()))
        self.assertFalse(self.permits(request(project_id='yours')))
        self.rules({copies.GET: "'debian':%(os_distro)s"})
        self.assertTrue(self.permits(request()))
        self.rules({copies.GET: "'rhel':%(os_distro)s"})
        self.assertFalse(self.permits(request()))

    def test_token_of_another_scope(self) -> None:
        self.assertFalse(self.permits(request(
            'admin', project_id=None, system_scope='all')))

    def test_unknown_rule(self) -> None:
        """A slip of ours is no permission."""
        self.assertRaises(policy.PolicyNotRegistered, self.permits,
                          request('admin'), 'easystack_image:fly')

    def test_documented(self) -> None:
        for rule in policies.list_rules():
            self.assertTrue(rule.name.startswith('easystack_image:'))
            self.assertNotEqual('', rule.description)
            self.assertTrue(rule.operations)


class ToolsTest(testtools.TestCase):
    """The commands of oslo.policy, as packagers run them."""

    def run_tool(self, name: str, *arguments: str, **environment: str) -> str:
        result = subprocess.run(
            [Path(sysconfig.get_path('scripts')) / name, '--namespace',
             'easystack_image', *arguments], capture_output=True, text=True,
            timeout=60, env=os.environ | environment)
        self.assertEqual(0, result.returncode, result.stderr)
        return result.stdout

    def test_sample(self) -> None:
        """What lies in etc is what the generator says, and a bit more."""
        generated = self.run_tool('oslopolicy-sample-generator')
        sample = (ROOT / 'etc/policy.d/easystack-image.yaml').read_text()
        rules = [line for line in generated.splitlines()
                 if line.startswith('#"')]
        self.assertEqual(len(policies.list_rules()), len(rules))
        for line in rules:
            self.assertIn(line, sample.splitlines())
        self.assertIsNone(yaml.safe_load(sample))
        # The example in it works as well.
        example = sample.splitlines()[-1]
        self.assertTrue(example.startswith('#"'))
        parsed = policy.Rules.load(example.lstrip('#'))
        self.assertIn(copies.GET, parsed)

    def test_enforcer(self) -> None:
        root = Path(self.useFixture(fixtures.TempDir()).path)
        (root / 'glance-api.conf').write_text(
            f'[oslo_policy]\npolicy_file = {root}/policy.yaml\n')
        (root / 'policy.yaml').write_text(f'"{copies.GET}": "role:reader"\n')
        effective = self.run_tool('oslopolicy-policy-generator',
                                  OS_GLANCE_CONFIG_DIR=str(root))
        self.assertEqual('role:reader',
                         yaml.safe_load(effective)[copies.GET])
        self.assertEqual('rule:context_is_admin',
                         yaml.safe_load(effective)[copies.VERIFY])
