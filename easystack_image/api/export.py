"""Lists of images as CSV, for spreadsheets and for scripts.

The format is RFC 4180's, in UTF-8, with a header row and a byte order mark,
by which Excel knows the encoding.  Every cell is quoted: which characters
would need it depends on who reads.

Spreadsheets take a cell that begins with certain characters for a formula,
whoever wrote it (OWASP, "CSV Injection").  Such text gets an apostrophe in
front of it.  It gets one inside a cell as well, where a cell would begin for
a reader that separates by semicolons or tabs, as Excel does in half of
Europe: it does not know our quotes then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import csv
import datetime
import io
import re
from typing import Any

MEDIA_TYPE = 'text/csv'
#: As RFC 4180 and RFC 7111 have it.
CONTENT_TYPE = f'{MEDIA_TYPE}; charset=utf-8; header=present'

#: The columns, and the properties that each shows: the first one that the
#: image has.  Nova knows some by two names.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    'name': ('name',),
    'status': ('status',),
    'disk_format': ('disk_format',),
    'size': ('size',),
    'os_distro': ('os_distro', 'os_type'),
    'architecture': ('architecture', 'hw_architecture'),
    'hypervisor_type': ('hypervisor_type', 'img_hv_type'),
    'min_disk': ('min_disk',),
    'min_ram': ('min_ram',),
    'visibility': ('visibility',),
    'protected': ('protected',),
    'tags': ('tags',),
    'description': ('description',),
    'created_at': ('created_at',),
    'updated_at': ('updated_at',),
    'owner': ('owner',),
    'id': ('id',),
}

_BOM = '\ufeff'
#: What a reader may pass over before it looks at what a cell begins with.
_PASSED_OVER = r'\s"\x00-\x1f\x7f\ufeff\u200b-\u200d\u2060'
#: The last four are those of East Asian keyboards, which Excel takes too.
_FORMULA = r'=+@\-\uff1d\uff0b\uff0d\uff20'
#: Where a cell may begin, besides the begin of the text.
_SEPARATORS = r';\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029'
#: What most texts are, and what no formula can begin in.
_PLAIN = re.compile(rf'[^;{_PASSED_OVER}{_FORMULA}][^{_SEPARATORS}]*')
# Each run of characters that may precede a formula is looked at once, so
# that the time does not grow with the square of its length.
_RISK = re.compile(
    rf'(?:^|(?<![;{_PASSED_OVER}])(?=[;{_PASSED_OVER}]))'
    rf'([;{_PASSED_OVER}]*+)(?=[{_FORMULA}])')
_SEPARATOR = re.compile(f'[{_SEPARATORS}]')
#: What OWASP names besides: harmless in front of anything but a formula,
#: and nothing that a name should begin with.
_LEADING = ('\t', '\r', '\n')


def header() -> bytes:
    """Return what a file begins with: byte order mark and header row."""
    return (_BOM + _lines([COLUMNS])).encode()


def rows(images: Iterable[Mapping[str, Any]]) -> bytes:
    """Return images as rows.

    :param images: as Glance shows them in a list
    """
    return _lines(map(_row, images)).encode('utf-8', 'replace')


def cut_short(request_id: str) -> bytes:
    """Return the row that ends a file from which rows are missing.

    It is no row like the others: a program stumbles over its one cell, and
    a human reads it.

    :param request_id: by which an operator finds the reason in the log
    """
    return _lines([['INCOMPLETE: this list was cut short by an error of the '
                    f'service, see its log for {request_id}']]).encode()


def file_name(now: datetime.datetime) -> str:
    """Return a name for a file that is made at a time (in UTC)."""
    return f'images-{now:%Y%m%dT%H%M%SZ}.csv'


def _lines(table: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator='\r\n',
               quoting=csv.QUOTE_ALL).writerows(table)
    return text.getvalue()


def _row(image: Mapping[str, Any]) -> list[str]:
    return [_cell(_first(image, names)) for names in COLUMNS.values()]


def _first(image: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of some properties that an image has, or None."""
    for name in names:
        if (value := image.get(name)) is not None:
            return value
    return None


def _cell(value: Any) -> str:
    """Return a value as the text of a cell, not quoted yet."""
    if isinstance(value, str):
        return harmless(value)
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return str(value) if isinstance(value, int) else harmless(_list(value))


def _list(values: Iterable[Any]) -> str:
    """Return several values as one: in CSV as well, so that none is lost.

    ``a,b`` are two, ``"a,b"`` is one.  The order is always the same.
    """
    text = io.StringIO()
    # What ends a line is what it puts into quotes within one.
    csv.writer(text, lineterminator='\r\n').writerow(
        sorted(map(str, values)))
    return text.getvalue().removesuffix('\r\n')


def harmless(text: str) -> str:
    """Return a text with an apostrophe wherever a formula might begin."""
    if not text or _PLAIN.fullmatch(text):
        return text
    text = _RISK.sub(_guard, text)
    return f"'{text}" if text.startswith(_LEADING) else text


def _guard(risk: re.Match[str]) -> str:
    before = risk[1]
    if risk.start() and not _SEPARATOR.search(before):
        # In the middle of a line: "a - b".
        return before
    return f"{before}'"
