"""The command `fanreel`: from photos to films, on this machine, without a server."""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from fanreel.cli.batch import add_batch
from fanreel.cli.host import add_calibrate, add_doctor
from fanreel.cli.init import add_init
from fanreel.cli.parser import CommandParser
from fanreel.cli.render import add_plan, add_render
from fanreel.cli.store import add_store_command
from fanreel.cli.terminal import abandon_output, say
from fanreel.errors import EncoderError, FanreelError, RequestError, StorageError

# Each command imports what it needs when it runs. That takes most of a second: `--help` must not wait for it, and
# Ctrl-C during it must end in one line.

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, or 2 request, 3 media, 4 encoder, 5 storage, 6 verification."""
    parser = _parser()
    _complete(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that cannot be shown, or a terminal without its letters, must not end a film.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except FanreelError as error:
        say(f"fanreel: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        kept = "; finished segments are kept, run the same command to go on" if options.keeps_segments else ""
        say(f"\nfanreel: interrupted{kept}")
        return INTERRUPTED
    except BrokenPipeError:
        abandon_output()
        return 0
    except UnicodeEncodeError as error:
        say(f"fanreel: {error.object!a}: this locale cannot show it; set PYTHONUTF8=1 and run it again")
        return RequestError.exit_code
    except MemoryError:
        say("fanreel: memory ran out; allow more of it, or ask for fewer sessions or smaller photos")
        return EncoderError.exit_code
    except ImportError as error:
        say(f"fanreel: a library cannot be loaded: {error}; allow more memory, or install fanreel again")
        return EncoderError.exit_code
    except OSError as error:
        abandon_output()
        say(f"fanreel: {error.filename or 'the output'}: {error.strerror or error}")
        return StorageError.exit_code
    return code


def _parser() -> CommandParser:
    parser = CommandParser(prog="fanreel", description=__doc__)
    parser.add_argument("--version", action="store_const", dest="run", const=_version, help="say which release it is")
    parser.set_defaults(keeps_segments=False)
    commands = parser.add_commands()
    add_render(commands.add("render", "make the film of a job file, or of photos"))
    add_plan(commands.add("plan", "show what would be rendered, and how the film is cut"))
    add_init(commands.add("init", "write a job file to begin with, for the photos here"))
    add_batch(commands.add("batch", "make a film of each row of a table"))
    verify = commands.add("verify", "prove a film against the certificate beside it")
    verify.add_argument("film", metavar="FILM.mp4", help="a path, or s3://bucket/folder/film.mp4")
    verify.add_argument("--full", action="store_true", help="decode every frame as well")
    verify.set_defaults(run=_verify)
    add_doctor(commands.add("doctor", "show what this machine can encode with, and why not with the rest"))
    add_calibrate(commands.add("calibrate", "measure how many sessions at once are best here, and keep it"))
    add_store_command(commands.add("store", "show, verify or prune the segment store"))
    return parser


def _complete(parser: CommandParser) -> None:
    """Answer the shell, and end, if it asks for completions; nothing else has to wait for the import."""
    from fanreel.settings import is_completing

    if is_completing():
        import_module("argcomplete").autocomplete(parser)


def _version(options: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(f"fanreel {version('fanreel')}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fanreel.printable import counted, printable
    from fanreel.publish.published import verify_published
    from fanreel.settings import read_settings

    certificate = verify_published(options.film, settings=read_settings(), full=options.full)
    how = "every frame decoded" if options.full else "every packet and sampled frames"
    frames = counted(certificate.frame_count, "frame")
    print(f"{printable(options.film)}: whole, {frames} in {counted(len(certificate.segments), 'segment')}, {how}")
    return 0
