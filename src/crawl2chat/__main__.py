"""The command `crawl2chat`, `python -m crawl2chat`, and so `torchrun -m crawl2chat`."""

import contextlib
import os
import sys

from crawl2chat import STATUS_FILE


def main() -> int:
    """Run the command line, as `cli.main` does, with signals handled from before the first import on."""
    status_file = os.environ.pop(STATUS_FILE, None)
    status, ran = 1, False
    try:
        from crawl2chat.parallel import torchrun
        from crawl2chat.stages import interrupts

        with interrupts.raised():
            from crawl2chat.cli.main import main as run

            status = run()
        interrupts.end_quietly()
        ran = True
    except KeyboardInterrupt as error:  # before or after the command's own work
        print("interrupted", file=sys.stderr)
        status = 128 + getattr(error, "number", 2)  # its module may not be imported yet; 2 is SIGINT
    finally:
        if status_file:
            with contextlib.suppress(OSError), open(status_file, "w") as file:  # its folder may have been deleted
                file.write(str(status))
    if ran and status > 128:  # without waiting for threads, such as one that asks a server which does not answer
        torchrun.leave(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
