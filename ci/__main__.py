"""`python -m ci`: the same as the console script `weighbridge`."""

from ci.cli import main

main()
