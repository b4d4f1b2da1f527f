"""`python -m distsae` is the same program as `distsae`."""

import sys

from distsae.cli.main import main

sys.exit(main())
