"""Random draws of tests: the same in every run, other ones in each `make soak`."""

import os
import random
import secrets

SOAK = bool(os.environ.get("RKD_SOAK"))
# Set in the environment so that all test processes draw alike. RKD_TEST_SEED repeats a run of `make soak`.
SEED = os.environ.setdefault("RKD_TEST_SEED", str(secrets.randbelow(10**6)) if SOAK else "20261125")


def draws(*key: object) -> random.Random:
    """Return a generator for one test, decided by the seed and the test's key."""
    return random.Random(repr((SEED, *key)))
