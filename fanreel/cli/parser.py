"""The parser of the command line: what every command shares, and mistakes told with what may have been meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["CommandParser", "Commands"]


class CommandParser(argparse.ArgumentParser):
    """A parser of the command or of one of its commands; all of them know `--verbose`."""

    def __init__(self, **words: object) -> None:
        super().__init__(**words)  # type: ignore[arg-type]
        # No default here: it would undo what was given before the command.
        self.add_argument(
            "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more about each step"
        )

    def add_commands(self) -> Commands:
        """Have the parser take one of several commands; without one, it shows its help."""
        self.set_defaults(run=None)
        return Commands(self)

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Return the arguments; the program ends with 2, and says why, if they are wrong."""
        options, unknown = self.parse_known_args(args, argparse.Namespace(verbose=False, parser=self))
        if unknown:
            options.parser.error(_explain_unknown(unknown[0], options.parser))
        if options.run is None:
            options.parser.print_help(sys.stderr)
            self.exit(2)
        return options

    def error(self, message: str) -> NoReturn:
        """End the program with 2: how the command is used, and what is wrong."""
        found = re.search(r"^argument command: invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            known = re.findall(r"[\w-]+", found[2])
            message = f"there is no command {found[1]!r}{_suggestion(found[1], known)}; there are {', '.join(known)}"
        super().error(message)


class Commands:
    """The commands that a parser takes."""

    def __init__(self, parser: CommandParser) -> None:
        self._commands = parser.add_subparsers(metavar="command", parser_class=CommandParser)

    def add(self, name: str, purpose: str) -> CommandParser:
        """Return the parser of a new command.

        Args:
            name: What people type.
            purpose: What it does, as the help says it.
        """
        command = self._commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        command.set_defaults(parser=command)
        return command


def _explain_unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-"):
        return f"{argument!r} is one argument too many"
    return f"there is no option {argument}{_suggestion(argument, re.findall(r'--[a-z-]+', parser.format_help()))}"


def _suggestion(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given.partition("=")[0], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
