"""What a check of the devices may find, how bad it is, and what to do."""

from __future__ import annotations

import dataclasses
import enum


class Severity(enum.Enum):
    """How bad a problem is."""

    #: Data is lost, or the next failure may lose some.
    ERROR = 'error'
    #: Somebody should see to it.
    WARNING = 'warning'
    #: Good to know; it goes by itself, or costs nothing but room.
    NOTE = 'note'


class Kind(enum.Enum):
    """A kind of problem: its name, how bad it is, and what to do."""

    def __init__(self, name: str, severity: Severity, advice: str) -> None:
        self.label = name
        self.severity = severity
        self.advice = advice

    # Devices.
    MISSING_DEVICE = (
        'missing-device', Severity.ERROR,
        'mount its disk; if it is lost: device replace')
    DENIED_DEVICE = (
        'denied-device', Severity.ERROR,
        'give it (chown) to the user of Glance, let that user through the '
        'directories above it, and run this as that user')
    REMOVED_DEVICE = (
        'removed-device', Severity.WARNING,
        'take it from easystack_block_devices, and restart Glance and the '
        'healer')
    DAMAGED_IDENTITY = (
        'damaged-identity', Severity.ERROR,
        'restore the file from a backup; else: device replace')
    FOREIGN_DEVICE = (
        'foreign-device', Severity.ERROR,
        'list only devices of one set, or empty it and prepare it anew')
    CLONED_DEVICE = (
        'cloned-device', Severity.ERROR,
        'list it once; empty the clone and prepare it anew')
    SHARED_DISK = (
        'shared-disk', Severity.WARNING,
        'give each device a disk of its own')
    UNKNOWN_DEVICE = (
        'unknown-device', Severity.WARNING,
        'list it in easystack_block_devices; if it is gone for good: '
        'device remove, or device replace')
    EXCHANGED_DEVICE = (
        'exchanged-device', Severity.WARNING,
        'rebalance gives it its share; then have the one before it '
        'forgotten: device remove, with its id')
    REPLACED_DEVICE = (
        'replaced-device', Severity.NOTE,
        'rebalance empties it; then: device remove')
    READ_ONLY_DEVICE = (
        'read-only-device', Severity.WARNING,
        'look for errors of its disk; mount it for writing')
    FAILED_DEVICE = (
        'failed-device', Severity.ERROR,
        'look for errors of its disk; if it is bad: device replace')
    DAMAGED_MEMBERS = (
        'damaged-members', Severity.NOTE, 'the healer writes it anew')

    # A device's tree.
    MISSING_DIRECTORY = (
        'missing-directory', Severity.ERROR,
        'create it, with mode 0700 and the owner of the device')
    UNEXPECTED = (
        'unexpected', Severity.WARNING,
        'find out what made it, and move it elsewhere')
    LINK = (
        'link', Severity.WARNING,
        'replace it by what it should be; a copy must be a file of its own')
    MODE = (
        'mode', Severity.WARNING, 'chmod: directories 0700, files 0600')
    OWNER = (
        'owner', Severity.WARNING, 'chown to the owner of the device')
    MISPLACED = (
        'misplaced', Severity.WARNING,
        'move it to images/XX, as its id begins; or, if the image has its '
        'copies, out of the device')
    LEFTOVER = (
        'leftover', Severity.NOTE, 'glance-api and the healer sweep it up')
    MARK = (
        'mark-without-image', Severity.NOTE, 'the healer removes it')
    QUARANTINE = (
        'quarantined', Severity.NOTE,
        'the healer removes it after easystack_block_quarantine_ttl days')

    # Copies.
    DAMAGED_COPY = (
        'damaged-copy', Severity.ERROR, 'repair')
    WRONG_SIZE = (
        'wrong-size', Severity.ERROR, 'repair')
    FOREIGN_COPY = (
        'foreign-copy', Severity.ERROR, 'repair')
    NEWER_COPY = (
        'newer-format', Severity.ERROR,
        'use the release that wrote it, or a later one')
    CONTRADICTION = (
        'contradiction', Severity.ERROR,
        'compare the copies with what Glance says; put the wrong ones out of '
        'the device, then: repair')
    STALE_COPY = (
        'stale-copy', Severity.WARNING, 'repair, or wait for the healer')
    NO_GOOD_COPY = (
        'no-good-copy', Severity.ERROR,
        'bring back absent devices, look into quarantine; else it is lost')
    BELOW_MIN_COPIES = (
        'below-min-copies', Severity.ERROR, 'repair at once')
    BELOW_COPIES = (
        'below-copies', Severity.WARNING, 'repair, or wait for the healer')
    SHARED_ZONE = (
        'shared-zone', Severity.WARNING, 'rebalance')
    SURPLUS = (
        'surplus-copy', Severity.NOTE, 'rebalance removes it')

    # Against what refers to the images.
    ORPHAN = (
        'orphan', Severity.WARNING,
        'attach it to a record again (see "location"), or: fsck '
        '--remove-orphans')
    LOST = (
        'lost-image', Severity.ERROR,
        'bring back absent devices; else restore the data from a backup, or '
        'delete the image in Glance')
    OUT_OF_REACH = (
        'out-of-reach', Severity.ERROR, 'bring back absent devices')
    DIFFERENT = (
        'differs-from-record', Severity.ERROR,
        'find out which is right, the record or the data')
    OTHER_UPLOAD = (
        'other-upload', Severity.ERROR,
        'restore the database or the devices: one is older than the other')
    OTHER_SET = (
        'other-set', Severity.ERROR,
        'check easystack_block_devices, and which database this is')
    SHARED_DATA = (
        'shared-data', Severity.WARNING,
        'delete none of these images: the others would lose their data')


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that a check found."""

    kind: Kind
    message: str
    #: The path of the device, or '' if it is about more than one.
    device: str = ''
    #: The id of the image, or ''.
    image: str = ''
    #: The upload that is meant, or ''.
    generation: str = ''

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.kind.severity

    @property
    def advice(self) -> str:
        """What to do about it."""
        return self.kind.advice
