"""`python -m rkd` is the command `rkd`."""

from rkd.cli import main

if __name__ == "__main__":
    main()
