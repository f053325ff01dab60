"""`python -m relight.agent`."""

import sys

from relight.agent.main import main

sys.exit(main())
