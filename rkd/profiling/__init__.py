"""Measure what models and methods cost."""
