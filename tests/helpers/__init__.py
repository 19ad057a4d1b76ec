"""Tools that tests share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Seconds, far above what any wait takes: a process that hangs fails its test.
TIMEOUT = 900
