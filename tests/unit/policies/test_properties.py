"""Rules that see values, and oslo.policy's own commands on them."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sysconfig
from typing import Any

import fixtures
from oslo_config import cfg
from oslo_context import context as oslo_context
import testtools
import yaml

from easystack_image.policies import enforcer
from easystack_image.policies import properties
from easystack_image.properties import catalog


class RulesTest(testtools.TestCase):

    def permits(self, rule: str, check: str | None = None,
                **target: Any) -> bool:
        root = Path(self.useFixture(fixtures.TempDir()).path)
        (root / 'policy.yaml').write_text(yaml.safe_dump(
            {rule: check} if check else {}))
        conf = cfg.ConfigOpts()
        conf(['--config-dir', str(root)], project='glance',
             default_config_files=[], default_config_dirs=[])
        context = oslo_context.RequestContext(
            roles=['member'], project_id='mine', overwrite=False)
        return enforcer.Enforcer(conf).permits(
            context, rule, {'owner': 'mine', 'status': 'queued',
                            'property': 'x', 'old_value': None,
                            'new_value': None} | target)

    def test_names(self) -> None:
        """They are the catalogue's, which rules lean on no room to know."""
        self.assertEqual(catalog.NAMES, properties.NAMES)
        self.assertEqual(
            {f'easystack_image:{name}:{action}' for name in catalog.NAMES
             for action in ('create', 'update', 'delete')},
            {rule.name for rule in properties.RULES})

    def test_defaults(self) -> None:
        for name in properties.NAMES:
            for action in properties.ACTIONS:
                rule = properties.rule_for(name, action)
                self.assertTrue(self.permits(rule, new_value='qemu'), rule)
                self.assertEqual(action == 'create', self.permits(
                    rule, status='active'), rule)
                self.assertFalse(self.permits(rule, owner='else'), rule)
        rule = properties.rule_for('hypervisor_type', 'update')
        self.assertFalse(self.permits(rule, new_value='baremetal'))

    def test_values(self) -> None:
        rule = properties.rule_for('architecture', 'update')
        check = ("'aarch64':%(old_value)s and 'x86_64':%(new_value)s and "
                 "'hw_architecture':%(property)s")
        for old, new, name, expected in (
                ('aarch64', 'x86_64', 'hw_architecture', True),
                ('x86_64', 'x86_64', 'hw_architecture', False),
                (None, 'x86_64', 'hw_architecture', False),
                ('aarch64', None, 'hw_architecture', False),
                ('aarch64', 'x86_64', 'architecture', False)):
            self.assertEqual(expected, self.permits(
                rule, check, old_value=old, new_value=new, property=name))

    def test_has(self) -> None:
        rule = properties.rule_for('architecture', 'create')
        for target, expected in (({}, False), ({'bdm_v2': ''}, True),
                                 ({'bdm_v2': None}, False),
                                 ({'bdm_v2': 'true'}, True)):
            self.assertEqual(expected, self.permits(
                rule, 'easystack_has:bdm_v2', **target))
        self.assertTrue(self.permits(rule, 'not easystack_has:bdm_v2'))


class ToolsTest(testtools.TestCase):
    """The three commands of oslo.policy."""

    def run_tool(self, name: str, root: Path, *arguments: str,
                 ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sysconfig.get_path('scripts')) / name, '--namespace',
             'easystack_image', *arguments], capture_output=True, text=True,
            timeout=60, env={'OS_GLANCE_CONFIG_DIR': str(root),
                             'PATH': sysconfig.get_path('scripts')})

    def prepare(self, rules: dict[str, str]) -> Path:
        root = Path(self.useFixture(fixtures.TempDir()).path)
        (root / 'glance-api.conf').write_text(
            f'[oslo_policy]\npolicy_file = {root}/policy.yaml\n')
        (root / 'policy.yaml').write_text(yaml.safe_dump(rules))
        return root

    def test_sample_generator(self) -> None:
        done = self.run_tool('oslopolicy-sample-generator', self.prepare({}))
        self.assertEqual(0, done.returncode, done.stderr)
        for rule in properties.RULES:
            self.assertIn(f'#"{rule.name}": "{rule.check_str}"', done.stdout)

    def test_policy_generator(self) -> None:
        rule = properties.rule_for('os_distro', 'update')
        done = self.run_tool('oslopolicy-policy-generator', self.prepare(
            {rule: "'windows':%(new_value)s"}))
        self.assertEqual(0, done.returncode, done.stderr)
        effective = yaml.safe_load(done.stdout)
        self.assertEqual("'windows':%(new_value)s", effective[rule])
        self.assertLessEqual({each.name for each in properties.RULES},
                             set(effective))

    def test_validator(self) -> None:
        rule = properties.rule_for('os_distro', 'update')
        for rules, problem in (
                ({rule: 'easystack_has:bdm_v2 or role:x'}, ''),
                ({rule: 'rule:nowhere'}, rule),
                ({'easystack_image:os_distro:fly': '@'}, 'fly')):
            done = self.run_tool('oslopolicy-validator', self.prepare(rules))
            self.assertEqual(bool(problem), done.returncode != 0,
                             done.stdout + done.stderr)
            self.assertIn(problem, done.stdout + done.stderr)
