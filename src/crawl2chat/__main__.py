"""The command `crawl2chat`, `python -m crawl2chat`, and so `torchrun -m crawl2chat`."""

import sys


def main() -> int:
    """Run the command line, as `cli.main` does, with signals handled from before the first import on."""
    try:
        from crawl2chat.parallel import torchrun
        from crawl2chat.stages import interrupts

        with interrupts.raised():
            from crawl2chat.cli.main import main as run

            status = run()
        interrupts.end_quietly()
        if status > 128:  # without waiting for threads, such as one that asks a server which does not answer
            torchrun.leave(status)
        return status
    except KeyboardInterrupt as error:  # before or after the command's own work
        print("interrupted", file=sys.stderr)
        return 128 + getattr(error, "number", 2)  # its module may not be imported yet; 2 is SIGINT


if __name__ == "__main__":
    sys.exit(main())
