"""The version, in a module that no job imports: a release retrains nothing."""

__version__ = "0.1.0"
