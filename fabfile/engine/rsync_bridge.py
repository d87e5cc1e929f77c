"""What rsync starts as its remote shell: hands its streams to the socket it was given, and waits.

    rsync_bridge.py SOCKET HOST WORD...
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    words = sys.argv[3:]
    socket.send_fds(link, [json.dumps(words).encode()], [0, 1])
    # Only the other side may hold the streams, or their end would never be seen.
    os.close(0)
    os.close(1)
    status = link.recv(1)
sys.exit(status[0] if status else 255)
