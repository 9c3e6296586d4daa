"""Lists of images as CSV."""

from __future__ import annotations

import csv
import datetime
import io
import time
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies
import testtools

from easystack_image.api import export

IMAGE: dict[str, Any] = {
    'name': 'ubuntu', 'status': 'active', 'disk_format': 'qcow2',
    'size': 1 << 40, 'os_distro': 'ubuntu', 'architecture': 'x86_64',
    'hypervisor_type': 'qemu', 'min_disk': 20, 'min_ram': 512,
    'visibility': 'public', 'protected': False, 'tags': ['lts'],
    'description': 'A server', 'created_at': '2026-02-25T11:28:54Z',
    'updated_at': '2026-02-26T02:54:47Z', 'owner': 'c0ffee', 'id': 'abc',
    'container_format': 'bare', 'file': '/v2/images/abc/file'}
#: What begins a formula somewhere (OWASP, "CSV Injection").
FORMULAS = '=+-@\uff1d\uff0b\uff0d\uff20'

#: Characters that matter to the format, to spreadsheets, or to nobody.
texts = strategies.text(strategies.one_of(
    strategies.sampled_from('=+-@,;"\'\t\r\n \uff1d\u200b\ufeff\x00'),
    strategies.characters(codec='utf-8')), max_size=30)


def read(data: bytes, **dialect: Any) -> list[list[str]]:
    """Return the cells of a file without byte order mark, as read back."""
    return list(csv.reader(io.StringIO(data.decode(), newline=''), **dialect))


def one(**properties: Any) -> dict[str, str]:
    """Return the cells of an image, by column."""
    (cells,) = read(export.rows([properties]), strict=True)
    return dict(zip(export.COLUMNS, cells, strict=True))


def opened(data: bytes, delimiter: str) -> list[str]:
    """Return the cells that a spreadsheet makes of a file."""
    return [cell for row in read(data, delimiter=delimiter) for cell in row]


def begins_formula(cell: str) -> bool:
    """Tell whether a spreadsheet might take a cell for a formula."""
    bare = cell.lstrip(' \t\r\n\v\f\x00\ufeff\u200b"')
    return bare[:1] in FORMULAS if bare else False


class FileTest(testtools.TestCase):

    def test_header(self) -> None:
        data = export.header()
        self.assertTrue(data.startswith(b'\xef\xbb\xbf"name","status",'))
        self.assertTrue(data.endswith(b',"owner","id"\r\n'))
        self.assertEqual([list(export.COLUMNS)], read(data[3:]))

    def test_the_fields_of_the_manual(self) -> None:
        self.assertEqual(
            ['name', 'status', 'disk_format', 'size', 'os_distro',
             'architecture', 'hypervisor_type', 'min_disk', 'min_ram',
             'visibility', 'protected', 'tags', 'description', 'created_at',
             'updated_at', 'owner', 'id'], list(export.COLUMNS))

    def test_row(self) -> None:
        self.assertEqual(
            b'"ubuntu","active","qcow2","1099511627776","ubuntu","x86_64",'
            b'"qemu","20","512","public","false","lts","A server",'
            b'"2026-02-25T11:28:54Z","2026-02-26T02:54:47Z","c0ffee","abc"'
            b'\r\n', export.rows([IMAGE]))

    def test_rows(self) -> None:
        self.assertEqual(b'', export.rows([]))
        self.assertEqual(2 * export.rows([IMAGE]),
                         export.rows([IMAGE, IMAGE]))

    def test_what_an_image_has_not_got_is_empty(self) -> None:
        self.assertEqual({''}, set(one(name=None, tags=[]).values()))
        self.assertEqual('0', one(size=0)['size'])

    def test_numbers_and_truth(self) -> None:
        cells = one(size=0, min_disk=7, protected=True)
        self.assertEqual(('0', '7', 'true'), (
            cells['size'], cells['min_disk'], cells['protected']))

    def test_names_that_nova_knows_too(self) -> None:
        self.assertEqual(('windows', 'aarch64', 'baremetal'), tuple(
            one(os_type='windows', hw_architecture='aarch64',
                img_hv_type='baremetal')[name]
            for name in ('os_distro', 'architecture', 'hypervisor_type')))
        self.assertEqual('debian', one(os_type='linux',
                                       os_distro='debian')['os_distro'])

    def test_what_no_encoding_has(self) -> None:
        self.assertIn(b'a?b', export.rows([{'name': 'a\ud800b'}]))

    def test_cut_short_is_no_row(self) -> None:
        (cells,) = read(export.cut_short('req-1'))
        self.assertEqual(1, len(cells))
        self.assertIn('INCOMPLETE', cells[0])
        self.assertIn('req-1', cells[0])

    def test_file_name(self) -> None:
        self.assertEqual('images-20260225T112854Z.csv', export.file_name(
            datetime.datetime(2026, 2, 25, 11, 28, 54, 5)))


class TagsTest(testtools.TestCase):

    def test_always_in_the_same_order(self) -> None:
        self.assertEqual('a,b,c', one(tags=['c', 'a', 'b'])['tags'])

    @settings(deadline=None)
    @given(strategies.lists(strategies.text(
        strategies.characters(codec='utf-8', exclude_characters=(
            '=+-@;\uff1d\uff0b\uff0d\uff20\t\r\n')), min_size=1),
        min_size=1, unique=True))
    def test_none_is_lost(self, tags: list[str]) -> None:
        cell = one(tags=tags)['tags']
        self.assertEqual([sorted(tags)], read(cell.encode()))

    def test_with_everything_in_them(self) -> None:
        tags = ['a,b', 'say "hi"', 'two\nlines', '\u955c\u50cf']
        self.assertEqual([sorted(tags)],
                         read(one(tags=tags)['tags'].encode()))


class FormulaTest(testtools.TestCase):

    def test_beginnings(self) -> None:
        for begin in (*FORMULAS, '\t', '\r', '\n'):
            self.assertEqual(f"'{begin}x", one(name=f'{begin}x')['name'])

    def test_behind_what_is_passed_over(self) -> None:
        for text in (' =1', '\t=1', '\u200b=1', '\ufeff=1', '"=1', '\x00=1',
                     '\u3000=1', ' " =1', '\xa0=1'):
            self.assertFalse(begins_formula(one(name=text)['name']), text)

    def test_where_others_begin_a_cell(self) -> None:
        for text, shown in (('a;=1', "a;'=1"), ('a; =1', "a; '=1"),
                            ('a\n=1', "a\n'=1"), ('a\t=1', "a\t'=1"),
                            ('a;"=1', 'a;"\'=1')):
            self.assertEqual(shown, one(description=text)['description'])

    def test_what_is_none(self) -> None:
        for text in ('a - b', 'a=b', 'x@y', "'=x", '1+1', 'a;b', 'a\nb',
                     'C++', '\u955c\u50cf', 'a, -b', 'a "=" b'):
            self.assertEqual(text, one(name=text)['name'])

    def test_in_a_tag(self) -> None:
        self.assertEqual("'=1,a", one(tags=['a', '=1'])['tags'])

    @settings(deadline=None)
    @given(strategies.lists(strategies.fixed_dictionaries({
        'name': texts, 'description': texts,
        'tags': strategies.lists(texts, max_size=3)}), max_size=3))
    def test_no_cell_is_one(self, images: list[dict[str, Any]]) -> None:
        """Whichever separator the reader's country has."""
        data = export.rows(images)
        for delimiter in ',;\t':
            for cell in opened(data, delimiter):
                self.assertFalse(begins_formula(cell), (delimiter, cell))

    @settings(deadline=None)
    @given(texts)
    def test_nothing_but_apostrophes_is_added(self, text: str) -> None:
        shown = one(name=text)['name']
        self.assertEqual(text.replace("'", ''), shown.replace("'", ''))
        self.assertGreaterEqual(len(shown), len(text))

    def test_time_is_linear(self) -> None:
        """Properties of 64 KiB are allowed."""
        for piece in '\t', ' ', ';', '\n', '"', ' -', ';-', '\t=':
            began = time.process_time()
            export.harmless(piece * (1 << 17))
            self.assertLess(time.process_time() - began, 5, repr(piece))
