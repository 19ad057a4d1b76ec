"""Snakemake finds logger plugins by the name of their package: `snakemake --logger rkd`. `make results` uses it."""

from rkd.workflow.console import LogHandler

__all__ = ["LogHandler"]
