#!/usr/bin/env python3
"""Prints a live token: a client of ccagent written from docs/protocol.md alone. usage: client.py [PROFILE]"""
import os, socket, stat, struct, sys


def fail(code, message, hint=""):
    print("ccagent: " + message, *("hint: " + line for line in hint.splitlines()), sep="\n", file=sys.stderr)
    sys.exit({10: 4, 11: 6, 12: 8, 13: 9}.get(code, code if 1 <= code <= 9 else 1))  # §5


def string(b):  # §3.2
    return struct.pack(">I", len(b)) + b


def take(fields, layout):  # one field, and the rest
    if layout == "s":
        n = struct.unpack_from(">I", fields)[0] + 4
        if n > len(fields):
            raise struct.error
        return fields[4:n], fields[n:]
    n = struct.calcsize(">" + layout)
    return struct.unpack_from(">" + layout, fields)[0], fields[n:]


env = os.environ
run = env.get("XDG_RUNTIME_DIR", "")  # §2.1
tmp = (env.get("TMPDIR") or "/tmp").rstrip("/")
default = run.rstrip("/") + "/ccagent/agent.sock" if run.startswith("/") else f"{tmp}/ccagent-{os.geteuid()}/agent.sock"
path = env.get("CCAGENT_SOCK") or default
names = ("HOME", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR") if path == default else ("", "", "")  # §4.1
home = b"".join(string(os.fsencode(env.get(name, ""))) for name in names)
profile = string(os.fsencode("".join(sys.argv[1:2])))
fields = profile + struct.pack(">QBB", 0, 0, 0) + string(b"") + home  # §4.2
try:
    folder, sock = os.lstat(os.path.dirname(path)), os.lstat(path)  # §2.2
    if not stat.S_ISDIR(folder.st_mode) or folder.st_mode & 0o077 or {folder.st_uid, sock.st_uid} != {os.geteuid()}:
        fail(6, "the socket's folder must be a directory of your own with mode 0700")
    agent = socket.socket(socket.AF_UNIX)
    agent.settimeout(60)
    agent.connect(path)
    agent.sendall(struct.pack(">IBB", len(fields) + 2, 1, 1) + fields)  # §3.1
    stream = agent.makefile("rb")
    _, version, op = struct.unpack(">IBB", header := stream.read(6))
    reply = stream.read(min(struct.unpack_from(">I", header)[0], 65536) - 2)
    if (version, op) == (1, 255):  # §4.7
        code, reply = take(reply, "H")
        message, reply = take(reply, "s")
        fail(code, message.decode("utf-8", "replace"), take(reply, "s")[0].decode("utf-8", "replace"))
    token = take(take(reply, "s")[1], "s")[0]
    if (version, op) != (1, 129) or not 1 <= len(token) <= 16384 or any(not 0x21 <= c <= 0x7E for c in token):
        fail(12, "the agent's answer is no token")
except (FileNotFoundError, ConnectionRefusedError):
    fail(5, "no agent is listening at " + path)
except (OSError, struct.error) as err:
    fail(7, f"no answer from the agent: {err}")
print(token.decode())
