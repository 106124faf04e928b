#!/usr/bin/env python3
"""Who reaches whom over TCP.

  reach.py listen PORT...               takes connections on all addresses, until it is killed
  reach.py connect FROM TO PORT SECONDS [USER]   open, reset (or otherwise refused), or silent for so long
  reach.py many FROM TO PORT COUNT      connects one after the other: how many were let in
  reach.py hold FROM TO PORT COUNT      the same, with all of them kept open

A packet may be lost, and is sent again after a second: only who waits longer knows that there is no answer.
"""

import asyncio
import contextlib
import os
import pwd
import socket
import sys

PATIENCE_SECONDS = 10


def listen(*ports):
    asyncio.run(serve(ports))


async def serve(ports):
    """Each connection is kept for as long as its client keeps it."""
    async def until_it_ends(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    sockets = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
               for port in ports]
    servers = [await asyncio.start_server(until_it_ends, sock=listening) for listening in sockets]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def attempt(source, to, port, seconds=PATIENCE_SECONDS):
    """A connection and what became of it."""
    connection = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
    connection.settimeout(seconds)
    connection.bind((source, 0))
    try:
        connection.connect((to, int(port)))
    except TimeoutError:
        return connection, "silent"
    except OSError:
        return connection, "reset"
    return connection, "open"


def connect(source, to, port, seconds, user=None):
    if user:
        os.setuid(pwd.getpwnam(user).pw_uid)
    connection, outcome = attempt(source, to, port, float(seconds))
    connection.close()
    print(outcome)


def many(source, to, port, count):
    outcomes = []
    for _ in range(int(count)):
        connection, outcome = attempt(source, to, port)
        connection.close()
        outcomes.append(outcome)
    print(outcomes.count("open"))


def hold(source, to, port, count):
    with contextlib.ExitStack() as stack:
        outcomes = []
        for _ in range(int(count)):
            connection, outcome = attempt(source, to, port)
            stack.enter_context(connection)
            outcomes.append(outcome)
        print(outcomes.count("open"))


{"listen": listen, "connect": connect, "many": many, "hold": hold}[sys.argv[1]](*sys.argv[2:])
