"""Over the air: releases, slots, and upgrades that nobody notices."""
