# Plays a loader, in the way that the entry says.

import array
import os
import socket
import sys
import time

preload, entry = "--preload" in sys.argv, sys.argv[3]
control = socket.socket(fileno=5)
keeper = os.getppid()


def say(*words):
    control.send("\0".join(words).encode())


def look():
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            print(number, os.readlink("/proc/self/fd/%d" % number).split(":")[0])
        except OSError:
            pass  # of the folder that was listed
    print("arguments", *sys.argv[1:])
    print("listen", os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_PID") == str(os.getpid()))
    print("text", len(open("/proc/self/fd/4", "rb").read()) > 0, os.getuid())
    sys.stdout.flush()


def order():
    packet, control_messages, _, _ = control.recvmsg(32768, socket.CMSG_SPACE(16))
    if not packet:
        sys.exit(0)
    numbers = array.array("i")
    for _, _, data in control_messages:
        numbers.frombytes(data)
    return packet.decode().split("\0")[1], list(numbers)


def fork(mark, descriptors, session=True, between=True, user=None, times=1):
    if between:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        elif os.fork():
            os._exit(0)
    child = None if between and child else 0 if between else os.fork()
    if child != 0:
        for descriptor in descriptors:
            os.close(descriptor)
        return
    if session:
        os.setsid()
    while between and os.getppid() != keeper:
        time.sleep(0.001)
    if user is not None:
        os.setuid(user)
    announce = socket.socket(fileno=descriptors[3])
    for _ in range(times):
        announce.send(b"here")
    if announce.recv(64) != b"go":
        os._exit(0)
    control.close()
    os.dup2(descriptors[1], 1)
    os.dup2(descriptors[2], 2)
    print("worker", mark, os.getpid(), flush=True)
    if entry == "hook":
        announce.send(b"failed\0hook\0its hook raised\0correct it")
        os._exit(1)
    announce.close()
    time.sleep(1000)


if not preload:
    if entry == "look":
        look()
    elif entry == "failed":
        say("failed", "module", "flask is missing\x1b[2J", "install it")
    elif entry == "nonsense":
        say("ready")
        say("failed", "module", "too late", "never seen")
    sys.exit(1)

if entry == "look":
    look()
    sys.exit(0)
if entry == "unfit":
    say("unfit", "it runs 2 threads")
    sys.exit(0)
if entry == "failed":
    say("failed", "syntax", "shop.py, line 7: a bracket is missing", "")
    sys.exit(1)
say("ready")
if entry == "flood":
    try:
        while True:
            say("ready")
    except OSError:
        print("not listened to", flush=True)
        time.sleep(1000)
while True:
    mark, descriptors = order()
    if entry == "child":
        fork(mark, descriptors, between=False)
    elif entry == "no-session":
        fork(mark, descriptors, session=False)
    elif entry == "twice":
        fork(mark, descriptors, times=2)
    elif entry == "user":
        fork(mark, descriptors, user=65534)
    elif entry == "itself":
        kept = socket.socket(fileno=descriptors[3])
        kept.send(b"here")
    elif entry == "before-fork":
        socket.socket(fileno=descriptors[3]).send(b"failed\0hook\0a hook raised before the fork\0correct it")
    elif entry == "exits":
        sys.exit(0)
    elif entry == "holds":
        print("holds", flush=True)
    elif entry == "deaf":
        print("deaf", flush=True)
        time.sleep(1000)
    else:
        fork(mark, descriptors)
