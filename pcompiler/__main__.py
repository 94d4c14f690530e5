"""``python -m pcompiler``."""

import sys

from pcompiler.cli import main

sys.exit(main())
