"""Upstream's unwrapper."""
