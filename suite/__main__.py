"""Let `python -m suite` be the command line."""

import sys

from suite.cli import main

sys.exit(main())
