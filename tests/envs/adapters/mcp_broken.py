"""An MCP server with every fault the tests ask for: ``python mcp_broken.py [how]``."""

from __future__ import annotations

import logging
import os
import sys
import time

from mcp.server import MCPServer

logging.disable(logging.CRITICAL)
how = sys.argv[1] if len(sys.argv) > 1 else ""
if how == "silent":
    time.sleep(60)
if how == "exits":
    sys.exit("no licence")
if how == "garbage":
    print("{not json\n\x00\x01", "<html>" * 1000, flush=True)
server = MCPServer("broken")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def who() -> int:
    """Which process this is."""
    return os.getpid()


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Answer too late."""
    time.sleep(5)
    return "late"


@server.tool()
def flood() -> str:
    """Say far too much."""
    return "x" * 3_000_000


if how == "answer":
    server.tool(name="answer")(add)
server.run()
