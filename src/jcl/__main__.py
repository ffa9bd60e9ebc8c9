"""`python -m jcl`, and the command `jcl`."""

from jcl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
