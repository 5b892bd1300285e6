#!/usr/bin/env python3
"""Print LAVA's events, and go on where the last run stopped.

    pip install pyzmq
    python3 resume.py last-uuid.txt [--endpoint tcp://127.0.0.1:5500] [--topic org.lavasoftware.testjob] [--seq]

The UUID of the last printed event is kept in the file. The next run asks for "@after:<uuid>": first comes what was
missed, then what happens. The first run begins with what happens now. A crash between print and write repeats one event.

--seq also subscribes to "@seq": each event then has a sixth frame, its number, and the publisher says what it cannot
give any more.
"""

import argparse
import os
from collections import deque

import zmq

# After so many events the bookmark on the connection is moved along, ...
MOVE_EVERY = 500
# ... and so many UUIDs are remembered: more than can come twice.
REMEMBERED = 20_000


def load(path):
    try:
        with open(path) as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def save(path, uuid):
    with open(path + ".new", "w") as file:
        file.write(uuid + "\n")
    os.replace(path + ".new", path)  # at once: never half a UUID


def main():
    parser = argparse.ArgumentParser(description="Print LAVA's events, and go on where the last run stopped.")
    parser.add_argument("file", help="where the last UUID is kept")
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5500")
    parser.add_argument("--topic", default="", help="beginning of the topics; default: all")
    parser.add_argument("--seq", action="store_true", help="ask for numbers and gaps")
    arguments = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.heartbeat_ivl = 10_000  # ms: a dead network is noticed, and the connection made again
    bookmark = load(arguments.file)
    if bookmark:
        socket.subscribe("@after:" + bookmark)
    if arguments.seq:
        socket.subscribe("@seq")
    socket.subscribe(arguments.topic)
    socket.connect(arguments.endpoint)

    order = deque([bookmark], maxlen=REMEMBERED)
    known = {bookmark}
    printed = 0
    while True:
        frames = [frame.decode() for frame in socket.recv_multipart()]
        if frames[0] == "@seq":
            if frames[1] == "gap":
                print("missing:", *frames[2:], flush=True)
            continue
        if frames[0].startswith("@"):
            continue

        topic, uuid, datetime, username, data, *number = frames
        # ZeroMQ reconnects by itself and then sends its subscriptions again, "@after" too: what came since then
        # comes again.
        if uuid in known:
            continue
        if len(order) == order.maxlen:
            known.discard(order[0])
        order.append(uuid)
        known.add(uuid)

        print(topic, uuid, datetime, username, data, *number, flush=True)
        save(arguments.file, uuid)
        printed += 1
        if printed == 1 or printed % MOVE_EVERY == 0:
            socket.subscribe("@after:" + uuid)
            if bookmark:
                socket.unsubscribe("@after:" + bookmark)
            bookmark = uuid


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
