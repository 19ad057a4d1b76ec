"""Load, build and run models."""
