"""The one error tree of the package.

Every error that the rooms below raise on purpose derives from
:class:`EasystackImageError`.  The adapters (``store``, ``middleware``,
``cmd``) translate it, once, to what their host expects.
"""

from __future__ import annotations

from collections.abc import Sequence


class EasystackImageError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(EasystackImageError):
    """The configuration cannot work; the message says what to change."""


class InvalidRequest(EasystackImageError, ValueError):
    """An argument is malformed; the message names it and what is allowed."""


class Interrupted(EasystackImageError):
    """Long work was asked to end before it was done."""


class Refused(EasystackImageError):
    """Something would lose copies, and was not done."""


class ListInterrupted(EasystackImageError):
    """A list of images could be begun, and not be gone on with."""


class RecordsError(EasystackImageError):
    """Glance's records of images cannot be read."""


class ContentError(EasystackImageError):
    """Base of the errors about image data; their text is for users."""


class ContentRefused(ContentError):
    """The bytes are not what was declared, or are not safe to use."""


class NoContent(ContentError):
    """There are no bytes, and the image is not one that needs none."""


class ContentTooLarge(ContentError):
    """The image, or the disk in it, is larger than is allowed."""


class ChecksumMismatch(ContentError):
    """The bytes do not have the checksum that was announced."""


class UrlRefused(ContentError):
    """A URL must not be fetched from here; nothing was sent to it."""


class DownloadFailed(ContentError):
    """What a URL leads to could not be fetched, or not all of it."""


class BlockStoreError(EasystackImageError):
    """Base of the errors of the replicated block store."""


class ImageNotFound(BlockStoreError):
    """No copy of the image exists on any device that can be reached."""


class ImageUnavailable(BlockStoreError):
    """No copy was found, but not all devices could be asked."""


class ImageExists(BlockStoreError):
    """The image is stored already."""


class SizeMismatch(BlockStoreError):
    """The source ended early, or went on past the size it declared."""


class DamagedImage(BlockStoreError):
    """No good copy is left of something that had to be read."""


class ImageInUse(BlockStoreError):
    """The image cannot be removed, because something depends on it."""


class ImageBusy(BlockStoreError):
    """Another process works on the image, and did not end in time."""


class DeviceError(BlockStoreError):
    """One device could not do what was asked of it.

    :param device: the path of the device
    :param reason: what happened, in words
    :param errno: the number of the operating system's error, if there was one
    """

    def __init__(self, device: str, reason: str,
                 errno: int | None = None) -> None:
        super().__init__(f'{device}: {reason}')
        self.device = device
        self.reason = reason
        self.errno = errno


class DeviceTimeout(DeviceError):
    """A device did not answer within its time limit."""


class DeviceUnavailable(DeviceError):
    """A device is not mounted, not ours, or was given up for a while."""


class DamagedCopy(DeviceError):
    """One copy is not what its manifest says (or the manifest is not)."""


class NotEnoughCopies(BlockStoreError):
    """Fewer than ``min_copies`` copies could be made durable.

    :param message: what was being done
    :param causes: one error per device that failed
    """

    def __init__(self, message: str,
                 causes: Sequence[DeviceError] = ()) -> None:
        details = '; '.join(str(cause) for cause in causes)
        super().__init__(f'{message} ({details})' if details else message)
        self.causes = tuple(causes)


class NoRoom(NotEnoughCopies):
    """There is no room for more, and it is known where.

    :param place: what is full, in words that users may see
    """

    def __init__(self, message: str, causes: Sequence[DeviceError] = (),
                 place: str = '') -> None:
        super().__init__(message, causes)
        self.place = place


class OtaError(EasystackImageError):
    """Base of the errors of releases, and of installing and upgrading."""


class InvalidRelease(OtaError):
    """A release is malformed, or not what its declaration says."""


class RefusedRelease(OtaError):
    """A release is genuine, and must not be installed here all the same."""


class Untrusted(OtaError):
    """What a repository offers is not signed as it must be, or out of date."""


class Unreachable(OtaError):
    """A repository did not answer, broke off, or was too slow."""


class ClockSetBack(OtaError):
    """The clock shows a time that is certainly over."""


class NotSigned(OtaError):
    """Keys, or signatures, are lacking for what was to be published."""


class SlotError(OtaError):
    """A slot cannot be built, is not whole, or must stay."""


class JournalError(OtaError):
    """What the updater keeps is damaged, old, or of another machine."""


class AlreadyRunning(OtaError):
    """Another process installs, upgrades or downloads at this moment."""


class NotNow(OtaError):
    """An upgrade cannot go on at this moment; what it did is kept."""


class JournalFull(NotNow):
    """The journal cannot be written now; it has all that was done before."""


class NotOurTurn(NotNow):
    """Other nodes have to be upgraded first, or are being upgraded."""


class RollbackAsked(OtaError):
    """Somebody wants an upgrade that is under way to be rolled back."""


class NoWayBack(OtaError):
    """What was done cannot be rolled back any more, only be gone on with."""


class UpgradeFailed(OtaError):
    """A new release does not do what it must."""


class InstanceError(OtaError):
    """An instance of the service does not run, or does not do as told."""


class CanaryFailed(UpgradeFailed):
    """A new instance does not do what every user needs it to do."""


class Regression(UpgradeFailed):
    """The new release answers worse than the old one did."""


class HookFailed(OtaError):
    """A hook says no, or cannot be run: the upgrade is rolled back."""


class InvalidHooks(HookFailed):
    """The hooks do not go together; the message says what to change."""


class RetryLater(OtaError):
    """A hook is not ready, and asks to be run again.

    :param reason: what it waits for
    :param seconds: after which to ask again
    """

    def __init__(self, reason: str, seconds: float = 60.0) -> None:
        super().__init__(reason)
        self.seconds = seconds
