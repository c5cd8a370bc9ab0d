"""The tables of a store of rankings, and how stores of the first version become ones of the second.

Version 2, against version 1: answers know the model's stage, what was shown to whom in which order is a row of its own
(so that it is there before anybody has judged it, and can be shown a second time), and a judgement may have ties, find
all answers bad, pass over the prompt, or have been taken back.
"""

import json
import sqlite3

from crawl2chat.stages.files import StageError

VERSION = 2

_SCHEMA = """
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL,
    messages TEXT NOT NULL DEFAULT '',  -- of a conversation, as JSON, or empty where the text is all of it
    UNIQUE (text, messages)
);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompts,
    text TEXT NOT NULL, ended INTEGER NOT NULL, author TEXT NOT NULL, stage TEXT
);
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompts, annotator TEXT NOT NULL,
    shown TEXT NOT NULL,  -- ids of answers as JSON, in the order in which they were shown
    repeat_of INTEGER REFERENCES assignments  -- the same answers, shown to the same annotator before
);
CREATE TABLE rankings (
    id INTEGER PRIMARY KEY, assignment INTEGER NOT NULL REFERENCES assignments,
    verdict TEXT NOT NULL CHECK (verdict IN ('ranked', 'all_bad', 'skipped')),
    best_first TEXT NOT NULL,  -- ids of answers as JSON, best first, those that are as good as each other in one list
    seconds REAL, time TEXT,
    withdrawn TEXT  -- when it was taken back
);
CREATE INDEX answers_of_prompt ON answers (prompt);
CREATE INDEX assignments_of_prompt ON assignments (prompt);
CREATE INDEX assignments_of_annotator ON assignments (annotator);
CREATE UNIQUE INDEX standing_rankings ON rankings (assignment) WHERE withdrawn IS NULL
"""
_TABLES_OF_VERSION_1 = {"prompts", "answers", "rankings"}


def prepare(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables in an empty database, or bring those of an older version up to date, in one transaction.

    name: of the store, for errors. Raises StageError for a database of something else and for a newer version, which
    are left as they are.
    """
    if _version(connection, name) == VERSION:
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = _version(connection, name)  # another process may have been faster
        if version == 0:
            _make_tables(connection)
        elif version == 1:
            _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, name: str) -> int:
    """Of the store in this database; 0 where there is none yet."""
    tables = {table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not tables and version == 0:
        return 0
    if not tables >= _TABLES_OF_VERSION_1:
        raise StageError(f"{name}: is a database of something else, not a store of rankings")
    if version > VERSION:
        raise StageError(
            f"{name}: is a store of rankings of version {version}; this crawl2chat reads versions up to {VERSION}"
        )
    return max(1, int(version))


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):  # executescript would end the transaction
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Ids stay. In version 1 answers were stored in the order in which they were shown."""
    for table in sorted(_TABLES_OF_VERSION_1):
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    _make_tables(connection)
    connection.execute("INSERT INTO prompts (id, text) SELECT id, text FROM old_prompts")
    connection.execute(
        "INSERT INTO answers (id, prompt, text, ended, author) SELECT id, prompt, text, ended, author FROM old_answers"
    )
    rows = connection.execute("SELECT id, prompt, annotator, best_first, time FROM old_rankings ORDER BY id").fetchall()
    for id, prompt, annotator, best_first, time in rows:
        ids = json.loads(best_first)
        connection.execute(
            "INSERT INTO assignments (id, prompt, annotator, shown) VALUES (?, ?, ?, ?)",
            (id, prompt, annotator, json.dumps(sorted(ids))),
        )
        connection.execute(
            "INSERT INTO rankings (id, assignment, verdict, best_first, time) VALUES (?, ?, 'ranked', ?, ?)",
            (id, id, json.dumps([[answer] for answer in ids]), time),
        )
    for table in ("rankings", "answers", "prompts"):  # what refers to another before that
        connection.execute(f"DROP TABLE old_{table}")
