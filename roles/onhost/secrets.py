"""Write the application's secrets, readable for its service and for nobody else.

ARGUMENTS: root, user (the service's, or null). FILES: one a secret, named as its variable.
"""

import json
import os
import pwd

ARGUMENTS = globals()["ARGUMENTS"]
FILES = globals()["FILES"]


def quoted(value):
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(char, escaped)
    return '"%s"' % value


def main():
    path = os.path.join(ARGUMENTS["root"], ".fabfleet", "secrets.env")
    lines = ["%s=%s\n" % (name, quoted(FILES[name].decode())) for name in sorted(FILES)]
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.writelines(lines)
    if ARGUMENTS["user"]:
        os.chown(path + ".new", -1, pwd.getpwnam(ARGUMENTS["user"]).pw_gid)
        os.chmod(path + ".new", 0o640)
    os.replace(path + ".new", path)
    print(json.dumps({"secrets": len(lines)}))


main()
