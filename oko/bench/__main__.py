"""`python -m oko.bench`."""

import sys

from oko.bench import main

sys.exit(main())
