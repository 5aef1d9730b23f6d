"""A small MCP server to try things with, ``python -m sparring.envs.adapters.mcp_shop``: what fruit costs, in pence."""

from __future__ import annotations

import logging
import sys

from .globals import need

PRICES = {"apple": 30, "pear": 45, "plum": 12, "melon": 210}


def price(fruit: str) -> int:
    """What one piece of a fruit costs, in pence."""
    return PRICES[fruit]


def stock() -> str:
    """Which fruit there is."""
    return ", ".join(PRICES)


def main() -> None:
    """Serve on standard input and output, or over HTTP on the port given as argument."""
    logging.disable(logging.CRITICAL)  # errors are answers here
    server = need("mcp.server", "mcp").MCPServer("shop")
    server.tool()(price)
    server.tool()(stock)
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()


if __name__ == "__main__":
    main()
