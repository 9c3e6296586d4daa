"""Whether the libraries that this package needs are there, and recent."""

from __future__ import annotations

import importlib.metadata

from packaging import requirements

from easystack_image.ota import checks

DISTRIBUTION = 'easystack-image'


def findings(distribution: str = DISTRIBUTION) -> list[checks.Finding]:
    """Return which requirements of a distribution are not met here."""
    found = []
    for text in importlib.metadata.requires(distribution) or ():
        wanted = requirements.Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({'extra': ''}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(checks.Finding(True, f'{wanted.name} is missing'))
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(checks.Finding(
                True, f'{wanted.name} is {version}, but must be '
                f'{wanted.specifier}'))
    return found
