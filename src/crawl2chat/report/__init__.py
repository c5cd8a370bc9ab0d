"""What a run measured, for people: a table in the terminal and one page of HTML."""

from crawl2chat.report.page import read_run, write_report
from crawl2chat.report.terminal import print_run, print_stage

__all__ = ["print_run", "print_stage", "read_run", "write_report"]
