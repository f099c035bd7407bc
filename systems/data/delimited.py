"""Tables as text files: the one place that reads one, whoever saved it.

UTF-8 with or without a byte order mark, UTF-16 with one, any ends of lines, quoted cells. What
cannot be read rightly is refused with its line and what to do.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAVE = "save the table as UTF-8"


class TableFault(Exception):
    """A table that cannot be read rightly: its text names the line, and says what to do."""


@dataclass(frozen=True)
class Table:
    """The cells of a table, without spaces around them.

    ``header``: names of the columns. ``lines``: of each row its line, the first of the file being
    1, and its cells, as many as the header has. ``uneven``: rows with another number of cells.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[int, list[str]], ...]
    uneven: tuple[tuple[int, list[str]], ...]
    separator: str

    def wrong_length(self, cells: Sequence[str]) -> str:
        """What is wrong with a row of another length."""
        name = {"\t": "TAB", ",": "comma", ";": "semicolon"}[self.separator]
        return f"{len(cells)} fields instead of {len(self.header)} (separated by {name})"


def read_table(path: Path, separators: str, header: Sequence[str] = ()) -> Table:
    """Read a table that is separated by whichever of ``separators`` its first line has most of.

    ``header``: its columns, where it has no line that names them. Empty cells at the end of a row
    that is too long do not count.

    Raises:
        FileNotFoundError: there is no such file.
        TableFault: it cannot be read, or not rightly.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TableFault(f"cannot be read: {error.strerror}") from error
    text = _text(content)
    separator = max(separators, key=text.split("\n", 1)[0].count)
    rows = _rows(text, separator)
    names = tuple(header)
    if not header:
        names = tuple(rows.pop(0)[1]) if rows else ()
    while names and not names[-1]:
        names = names[:-1]
    even: list[tuple[int, list[str]]] = []
    uneven: list[tuple[int, list[str]]] = []
    for number, cells in rows:
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        (even if len(cells) == len(names) else uneven).append((number, cells))
    return Table(names, tuple(even), tuple(uneven), separator)


def _text(content: bytes) -> str:
    """The text of a file, with plain ends of lines.

    Raises:
        TableFault: of another encoding, or no text.
    """
    encoding = "utf-8-sig"
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif (place := content.find(b"\0")) >= 0:
        raise TableFault(
            f"line {_line(content, place)}: there are NUL bytes: it is no text, or damaged, or "
            f"UTF-16 without a byte order mark: {SAVE}"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise TableFault(f"is cut off, or no UTF-16 as it says: {SAVE}") from error
        byte = content[error.start : error.start + 1]
        raise TableFault(
            f"line {_line(content, error.start)}: byte 0x{byte.hex()} is no UTF-8 "
            f"('{byte.decode('latin-1')}' in Latin-1): {SAVE}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(content: bytes, place: int) -> int:
    """The line that a byte is on."""
    before = content[:place]
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Each row that is not blank with the line it is on.

    Raises:
        TableFault: a quote that is not closed on its line.
    """
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    found: list[tuple[int, list[str]]] = []
    line = 1
    what = (
        'a quote (") is opened that does not end with its cell: remove it, or write it twice in '
        "a cell that is quoted as a whole"
    )
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return found
        except csv.Error as error:
            raise TableFault(f"line {line}: {what}") from error
        if reader.line_num > line:  # it swallowed the rows below it
            raise TableFault(f"line {line}: {what}")
        cells = [cell.strip() for cell in cells]
        if any(cells):
            found.append((line, cells))
        line = reader.line_num + 1
