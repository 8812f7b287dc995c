"""The command `prunus`: one module for each command, and what they share.

Commands import what they need when they run, so that `prunus --help` answers at once.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command that this process was started with, and end the process."""
    from prunus.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "×" is no reason to fail
    app()
