"""Keep the list of hosts that were skipped and have to catch up.

ARGUMENTS: root, release, ref (what it was made of), skipped (hosts), done (hosts). Prints the list:
{host: {release, ref, since}}.
"""

import json
import os
import time

ARGUMENTS = globals()["ARGUMENTS"]
PATH = os.path.join(ARGUMENTS["root"], ".fabfleet", "owed.json")


def main():
    try:
        with open(PATH, encoding="utf-8") as text:
            owed = json.load(text)
    except FileNotFoundError:
        owed = {}
    for host in ARGUMENTS["done"]:
        owed.pop(host, None)
    for host in ARGUMENTS["skipped"]:
        known = owed.get(host, {"since": time.time()})
        owed[host] = dict(known, release=ARGUMENTS["release"], ref=ARGUMENTS["ref"])
    with open(PATH + ".new", "w", encoding="utf-8") as out:
        json.dump(owed, out)
        out.flush()
        os.fsync(out.fileno())
    os.rename(PATH + ".new", PATH)
    print(json.dumps(owed))


main()
