"""Measurements of speed and memory against the reference implementations; the results are in `docs/performance.md`."""
