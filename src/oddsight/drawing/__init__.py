"""Overlays, explanations and charts."""
