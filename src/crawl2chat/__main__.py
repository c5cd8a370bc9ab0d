"""`python -m crawl2chat`, and so `torchrun -m crawl2chat`."""

import sys

from crawl2chat.cli import main

sys.exit(main())
