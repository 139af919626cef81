"""``python -m nodes``: the ``mesh`` command, where the script of that name is not on the path."""

import sys

from nodes.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
