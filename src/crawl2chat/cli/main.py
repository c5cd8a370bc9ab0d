"""The command line: which commands there are, and what becomes of errors and signals."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crawl2chat import __version__
from crawl2chat.cli import data, measure, release, run, seeds, serve, stages, talk
from crawl2chat.parallel import torchrun
from crawl2chat.stages import interrupts
from crawl2chat.stages.disks import describe
from crawl2chat.stages.files import StageError

GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "make a model": (
        run.add_run,
        stages.add_stages,
        run.add_plan,
        seeds.add_seeds,
        data.add_judge,
        data.add_classify,
    ),
    "talk to it": (talk.add_chat, talk.add_generate, talk.add_rank, serve.add_serve, serve.add_app),
    "look at what is there": (
        data.add_tokens,
        data.add_conversations,
        measure.add_match,
        run.add_report,
        run.add_compare,
    ),
    "measure": (measure.add_eval, data.add_judge_answers, measure.add_compress, measure.add_decompress),
    "share": (release.add_import, release.add_export, release.add_verify),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; returns the exit status: 0 done, 1 an error that a message explains, 130 or 143 interrupted."""
    # Arrow's own allocator takes a gibibyte for each process at once, as resident memory on some kernels
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Threads of GNU's OpenMP wait for each other by spinning, which next to another busy program takes its turns away
    if "OMP_WAIT_POLICY" not in os.environ:  # over which the count would win
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        with interrupts.raised():
            status = _run(arguments)
            status = _flush() or status
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        _drop_output()
        status = 1
    except KeyboardInterrupt as error:
        import multiprocessing

        for process in multiprocessing.active_children():  # one that was being started when the signal came
            process.kill()
        if torchrun.is_first_to_fail():
            print(interrupts.message, file=sys.stderr)
        status = interrupts.exit_status(error)
    if torchrun.world_size() > 1:
        torchrun.leave(status)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    rest, settings = _split_settings(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser.parse_args(rest or ["--help"])  # which prints help or a list of settings, if asked
    except OSError as error:
        return _report_unwritten(error)
    _expand_tildes(options)
    if settings and not options.takes_settings:
        parser.error(f"{options.command} takes no settings: {settings[0]}")
    again = "without --force and --from, " if "--force" in rest or "--from" in rest else ""
    goes_on = f"; {again}the same command goes on from here" if options.command in ("run", *stages.STAGES) else ""
    interrupts.message = f"interrupted{goes_on}"
    try:
        if torchrun.rank():
            return stages.follow()
        status: int = options.command_function(options, *([settings] if options.takes_settings else []))
        torchrun.dismiss_others()
        return status
    except torchrun.RanksLost:
        return 1
    except StageError as error:
        if torchrun.is_first_to_fail():
            print(error, file=sys.stderr)
        return 1
    except Exception as error:
        if not torchrun.is_first_to_fail():
            return 1
        explained = None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            out = getattr(options, "out", None)
            explained = describe(error, out and Path(out), goes_on=goes_on and ", it goes on from here")
        if explained is None:
            raise
        print(explained, file=sys.stderr)
        return 1


def _flush() -> int:
    """Write what was printed, while a failure can still be reported; returns the exit status."""
    if sys.stdout is None:  # closed before the command began, so nothing was printed
        return 0
    try:
        sys.stdout.flush()
    except OSError as error:
        return _report_unwritten(error)
    return 0


def _report_unwritten(error: OSError) -> int:
    """Report that standard output could not be written, and return the exit status; a broken pipe is raised again."""
    if isinstance(error, BrokenPipeError):
        raise error
    _drop_output()
    print(describe(error) or f"standard output: {error}", file=sys.stderr)
    return 1


def _drop_output() -> None:
    """Have Python's end write nowhere what it could not write before."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _expand_tildes(options: argparse.Namespace) -> None:
    """The shell leaves the ~ of --out=~/run as it is."""
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.expanduser())
        elif isinstance(value, list):
            setattr(options, name, [part.expanduser() if isinstance(part, Path) else part for part in value])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crawl2chat",
        usage="crawl2chat COMMAND …",
        description="From a web crawl to a chat assistant: one command per stage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"crawl2chat {__version__}")
    commands = parser.add_subparsers(prog="crawl2chat", dest="command", required=True, help=argparse.SUPPRESS)
    lines: list[str] = []

    def add(
        name: str, text: str, function: Callable[..., int], *, example: str, takes_settings: bool = False
    ) -> argparse.ArgumentParser:
        """Add a command. example: what is typed after its name, shown in its help."""
        lines.append(f"  {name:<15} {text}")
        notes = "any setting: --table.name VALUE (see --settings)\n\n" * takes_settings
        command = commands.add_parser(
            name, help=text, description=text, epilog=f"{notes}example:\n  crawl2chat {name} {example}",
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.set_defaults(command_function=function, takes_settings=takes_settings)
        return command

    for title, family in GROUPS.items():
        lines.append(f"\n{title}:")
        for add_command in family:
            add_command(add)
    parser.epilog = "\n".join(lines).strip() + EXAMPLES
    return parser


EXAMPLES = """

examples:
  crawl2chat run                         the whole way on the made-up web, into runs/laptop
  crawl2chat run recipes/pages.toml --crawl.warc 'pages/*.warc.gz'
  crawl2chat chat runs/laptop
  crawl2chat COMMAND --help              options of a command, and an example
"""


def _split_settings(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options and settings: a setting is a flag with a dot in its name, and what follows it is its value."""
    options: list[str] = []
    settings: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            options.append(argument)
            continue
        settings.append(argument)
        if not equals and rest and not rest[0].startswith("--"):
            settings.append(rest.pop(0))
    return options, settings


if __name__ == "__main__":
    sys.exit(main())
