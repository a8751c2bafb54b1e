"""Capture: everything that touches torch. Nothing outside this package imports it."""
