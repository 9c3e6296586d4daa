"""Whether what shall protect images does, with nothing that goes around it.

Each filter of ours works by itself, so a deployer may leave some out; but
some are of no use without a partner elsewhere in the configuration, which
Glance does not miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import os
import re

from oslo_config import cfg
from oslo_config import types

from easystack_image import exceptions
from easystack_image.ota import checks
from easystack_image.ota.checks import pipelines
from easystack_image.ota.checks import policy

#: How paste files name what is ours: by the entry point, or the module.
_OURS = re.compile(r'egg:easystack[-_]image#(?P<name>easystack_\w+)|'
                   r'easystack_image\.middleware\.(?P<module>\w+):\w+')
_IMPORT = 'glance-image-import.conf'
_SAMPLE = 'glance-api-paste.ini.easystack-sample'
#: What stands before the context of a request is made; all others need it.
_BEFORE = 'easystack_api'


def findings(conf: cfg.ConfigOpts) -> list[checks.Finding]:
    """Return what is not protected although it seems to be.

    :param conf: Glance's global configuration, read already
    """
    try:
        sections = pipelines.sections(conf)
    except exceptions.ConfigurationError as error:
        return [checks.Finding(True, str(error))]
    used = list(map(_ours, sections.values()))
    if not any(used):
        return [checks.Finding(
            False, 'nothing of easystack-image is in the pipeline: take it '
            f'from {_SAMPLE}, and look at [paste_deploy] flavor')]
    found = [*_order(list(sections), used), *_hidden(conf, used)]
    if 'easystack_content' in used:
        found += _imports(conf)
    if 'easystack_uploads' in used:
        found += _uploads(conf)
    return [*found, *_unread(conf), *_health(sections.values())]


def filters(conf: cfg.ConfigOpts) -> list[str]:
    """Return what of ours is in the pipeline, by the names of entry points.

    :param conf: see :func:`findings`
    :raises ConfigurationError: if the paste file cannot be read
    """
    return [name for name in map(
        _ours, pipelines.sections(conf).values()) if name]


def _ours(options: dict[str, str]) -> str:
    """Return the name of a part that is ours, or ''."""
    for name in ('use', 'paste.filter_factory', 'paste.app_factory'):
        match = _OURS.fullmatch(options.get(name, '').strip())
        if match:
            return match['name'] or (
                'easystack_images' if match['module'] == 'hidden'
                else f'easystack_{match["module"]}')
    return ''


def _order(names: Sequence[str], used: Sequence[str],
           ) -> Iterator[checks.Finding]:
    """Yield filters that stand where they cannot do what they are for."""
    contexts = [place for place, name in enumerate(names)
                if name.endswith('context')]
    for place, name in enumerate(used):
        is_filter = names[place].startswith('filter:')
        if not name or not is_filter or not contexts:
            continue
        if name == _BEFORE and place > contexts[0]:
            yield checks.Finding(
                True, f'{name} must stand before "versionnegotiation" in the '
                'pipeline, or errors of the filters before it are not as '
                'documented')
        elif name not in (_BEFORE, 'easystack_ota') and place < contexts[0]:
            yield checks.Finding(
                True, f'{name} must stand behind "context" in the pipeline: '
                'it would not know who asks')


def _imports(conf: cfg.ConfigOpts) -> Iterator[checks.Finding]:
    """Yield that imports go around the content gate."""
    # As Glance has it (glance/async_/flows/api_image_import.py), which reads
    # a file beside the others, but only where it finds these by itself.
    option = cfg.ListOpt('image_import_plugins', item_type=types.String(
        quotes=True), bounds=True, default=[])
    files = list(conf.config_file or ())
    beside = [os.path.join(os.path.dirname(path), _IMPORT) for path in files]
    own = cfg.ConfigOpts()
    own.register_opt(option, group='image_import_opts')
    try:
        own([], project='glance', prog='glance-api', default_config_files=[
            *filter(os.path.isfile, dict.fromkeys(beside)), *files],
            default_config_dirs=list(conf.config_dir or ()))
        plugins = own.image_import_opts.image_import_plugins
    except (cfg.Error, ValueError) as error:
        yield checks.Finding(
            True, f'[image_import_opts] image_import_plugins: {error}')
        return
    if 'easystack_content' not in plugins:
        yield checks.Finding(
            True, 'imports go around the filter easystack_content: add '
            'easystack_content to [image_import_opts] image_import_plugins '
            f'in {_IMPORT}')


def _hidden(conf: cfg.ConfigOpts, used: Sequence[str],
            ) -> Iterator[checks.Finding]:
    """Yield that hidden properties are lost, and found by filters."""
    # Glance registers its option there.
    import glance.common.property_utils  # noqa: F401

    if conf.property_protection_file and 'easystack_images' not in used:
        yield checks.Finding(
            False, 'property_protection_file is set, but the pipeline has '
            "Glance's own application: whoever changes an image deletes the "
            'properties that he may not read; put "use = '
            'egg:easystack-image#easystack_images" under [app:apiv2app] in '
            'the paste file')


def _uploads(conf: cfg.ConfigOpts) -> Iterator[checks.Finding]:
    """Yield that all may upload."""
    rules, _ = policy.read(conf)
    if 'upload_image' not in rules:
        yield checks.Finding(
            False, 'the filter easystack_uploads has everybody stage and '
            'import who may upload, and no policy file says who that is: '
            'every member of a project may; copy policy.d/'
            'easystack-image-uploads.yaml, or take the filter out')


def _unread(conf: cfg.ConfigOpts) -> Iterator[checks.Finding]:
    """Yield that there are policy files which nobody reads."""
    if conf.find_file(conf.oslo_policy.policy_file):
        return
    for name in conf.oslo_policy.policy_dirs:
        directory = conf.find_file(name)
        if directory and os.path.isdir(directory) and os.listdir(directory):
            yield checks.Finding(
                True, f'the policy files in {directory} are not read, since '
                f'{conf.oslo_policy.policy_file} does not exist: make it, '
                'be it empty')


def _health(sections: Iterable[dict[str, str]],
            ) -> Iterator[checks.Finding]:
    """Yield that load balancers do not hear of our stores."""
    for options in sections:
        backends = options.get('backends', '')
        if 'Healthcheck' in options.get('paste.app_factory', '') and (
                'easystack_block' not in backends):
            yield checks.Finding(
                False, 'the health check does not ask the stores: add '
                'easystack_block to "backends" under [app:healthcheck] in '
                'the paste file')
