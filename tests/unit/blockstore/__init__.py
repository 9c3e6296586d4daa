"""Tests of the block store, module by module."""

from __future__ import annotations

import hypothesis


def examples(count: int) -> hypothesis.settings:
    """Return settings for ``count`` examples, the same ones in every run."""
    return hypothesis.settings(
        max_examples=count, derandomize=True, deadline=None, database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow,
                               hypothesis.HealthCheck.data_too_large])
