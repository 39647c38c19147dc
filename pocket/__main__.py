"""`python -m pocket`."""

import sys

from pocket.cli import main

sys.exit(main())
