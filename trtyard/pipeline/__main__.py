"""``python -m trtyard.pipeline``: what runs inside a row's environment."""

import sys

from trtyard.pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
