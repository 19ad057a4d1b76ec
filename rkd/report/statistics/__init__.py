"""Intervals, comparisons and verdicts: one module per question."""
