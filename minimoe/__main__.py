"""`python -m minimoe` is the command `minimoe`."""

import sys

from minimoe.cli import main

sys.exit(main())
