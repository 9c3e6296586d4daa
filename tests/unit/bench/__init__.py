"""The benchmark's own arithmetic, and its eye for wrong bytes."""
