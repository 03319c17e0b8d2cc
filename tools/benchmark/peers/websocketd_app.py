"""A peer: what websocketd runs for each connection. A line is a message."""

import sys

for line in sys.stdin:
    sys.stdout.write(line)
    sys.stdout.flush()
