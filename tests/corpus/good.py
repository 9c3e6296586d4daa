"""Images that must be accepted, made by the programs that people use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import subprocess

from tests.corpus import formats

_SIZE = '64M'
#: Options of "qemu-img create -f qcow2", as its manual lists them.
QCOW2_OPTIONS = (
    'compat=0.10', 'compat=1.1', 'cluster_size=512', 'cluster_size=4k',
    'cluster_size=2M', 'lazy_refcounts=on', 'refcount_bits=1',
    'refcount_bits=64', 'preallocation=metadata', 'preallocation=falloc',
    'preallocation=full', 'compression_type=zlib', 'compression_type=zstd',
    'compat=0.10,cluster_size=64k,preallocation=metadata', 'nocow=on',
    'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10')


def qemu_img(*arguments: str | Path) -> None:
    """Run qemu-img, which must succeed."""
    subprocess.run(['qemu-img', *map(str, arguments)], check=True,
                   capture_output=True, timeout=120)


def mke2fs(*arguments: str | Path) -> None:
    """Make a file system, which must succeed."""
    subprocess.run(['/sbin/mke2fs', *map(str, arguments)], check=True,
                   capture_output=True, timeout=120)


def qcow2_images(root: Path) -> Iterator[tuple[str, Path]]:
    """Make qcow2 images of all kinds; yield what is special, and the path."""
    for number, options in enumerate(QCOW2_OPTIONS):
        path = root / f'{number}.qcow2'
        qemu_img('create', '-q', '--object', 'secret,id=s,data=x', '-f',
                 'qcow2', '-o', options, path, _SIZE)
        yield options, path
    source = root / 'source.raw'
    source.write_bytes(bytes(range(256)) * 4096)
    for name, more in (('converted', []), ('compressed', ['-c']),
                       ('compressed zstd', ['-c', '-o',
                                            'compression_type=zstd'])):
        path = root / f'{name}.qcow2'
        qemu_img('convert', '-f', 'raw', '-O', 'qcow2', *more, source, path)
        yield name, path
    path = root / 'changed.qcow2'
    qemu_img('create', '-q', '-f', 'qcow2', path, _SIZE)
    for name, command in (
            ('snapshot', ['snapshot', '-c', 'before', path]),
            ('grown', ['resize', path, '+4M']),
            ('bitmap', ['bitmap', '--add', path, 'changes'])):
        qemu_img(*command)
        yield name, path
    # Made of an image with a backing file, by way of "qemu-img rebase".
    base, path = root / 'base.qcow2', root / 'rebased.qcow2'
    qemu_img('create', '-q', '-f', 'qcow2', base, _SIZE)
    qemu_img('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path)
    qemu_img('rebase', '-b', '', path)
    yield 'rebased', path


def raw_images(root: Path) -> Iterator[tuple[str, Path]]:
    """Make raw images; yield what is special, and the path."""
    path = root / 'empty.raw'
    qemu_img('create', '-q', '-f', 'raw', path, _SIZE)
    yield 'empty', path
    for kind in ('ext2', 'ext4'):
        path = root / f'{kind}.raw'
        mke2fs('-q', '-t', kind, path, '8M')
        yield kind, path
    for name, table in (('gpt', formats.PROTECTIVE),
                        ('mbr', formats.partition(boot=0x80))):
        path = root / f'{name}.raw'
        path.write_bytes(formats.disk(table))
        yield name, path
