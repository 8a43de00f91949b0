#!/usr/bin/env python3
"""Prints a live token: a client of ccagent written from docs/protocol.md alone. usage: client.py [PROFILE]"""
import os, socket, stat, struct, sys


def fail(code, message, hint=""):
    print("ccagent: " + message, *("hint: " + line for line in hint.splitlines()), sep="\n", file=sys.stderr)
    sys.exit({10: 4, 11: 6, 12: 8, 13: 9}.get(code, code if 1 <= code <= 9 else 1))  # §5


def pack(text):  # a string, §3.2
    return struct.pack(">I", len(os.fsencode(text))) + os.fsencode(text)


def unpack(fields):  # the first string, and the rest
    size = struct.unpack_from(">I", fields)[0]
    return struct.unpack_from(f">{size}s", fields, 4)[0], fields[4 + size:]


def private(folder):  # §2.2
    info = os.lstat(folder)
    return stat.S_ISDIR(info.st_mode) and not info.st_mode & 0o077 and info.st_uid == os.geteuid()


run, tmp, login = os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR"), f"/run/user/{os.geteuid()}"  # §2.1
if not run.startswith("/") and not tmp and os.path.lexists(login) and private(login):
    run = login
folder = os.path.join(run, "ccagent") if run.startswith("/") else f"{(tmp or '/tmp').rstrip('/')}/ccagent-{os.geteuid()}"
path = os.environ.get("CCAGENT_SOCK") or folder + "/agent.sock"
claude = os.environ.get("CLAUDE_SECURESTORAGE_CONFIG_DIR", os.environ.get("CLAUDE_CONFIG_DIR", ""))
if claude and not claude.startswith("/"):  # §4.1
    fail(2, "the folder of Claude Code is not an absolute path")
home = [os.environ.get("HOME", ""), os.environ.get("XDG_CONFIG_HOME", ""), claude] if path == folder + "/agent.sock" else ["", "", ""]
request = pack("".join(sys.argv[1:2])) + struct.pack(">QBB", 0, 0, 0) + pack("")  # §4.2
request += b"".join(pack(place) for place in home)
try:
    here = os.getcwd()
except OSError:  # it was deleted
    here = ""
if home[0] and not "".join(sys.argv[1:2]) and 0 < len(os.fsencode(here)) <= 4096:  # the agent chooses by it, §4.1
    request += struct.pack(">QBQ", 2**63 - 1, 0, 0) + pack(here)
try:
    end = os.path.realpath(path) if os.path.islink(path) else path
    if not all(private(os.path.dirname(place)) and os.lstat(place).st_uid == os.geteuid() for place in (path, end)):
        fail(6, "the socket's folder must be a directory of your own with mode 0700")
    agent = socket.socket(socket.AF_UNIX)
    agent.settimeout(60)
    agent.connect(path)
    agent.sendall(struct.pack(">IBB", len(request) + 2, 1, 1) + request)  # §3.1
    stream = agent.makefile("rb")
    size, version, op = struct.unpack(">IBB", stream.read(6))
    reply = stream.read(min(size, 65536) - 2)
    if (version, op) == (1, 255):  # §4.7
        (message, rest), code = unpack(reply[2:]), struct.unpack_from(">H", reply)[0]
        fail(code, *(text.decode("utf-8", "replace") for text in (message, unpack(rest)[0])))
    token = unpack(unpack(reply)[1])[0]
    if (version, op) != (1, 129) or not 1 <= len(token) <= 16384 or not all(0x21 <= c <= 0x7E for c in token):
        fail(12, "the agent's answer is no token")
except (FileNotFoundError, ConnectionRefusedError):
    fail(5, "no agent is listening at " + path)
except (OSError, struct.error) as err:
    fail(7, f"no answer from the agent: {err}")
print(token.decode())
