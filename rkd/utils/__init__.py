"""Files, scripts, locks and provenance."""
