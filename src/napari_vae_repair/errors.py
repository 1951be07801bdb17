"""What a user can do wrong, each with the way out.

Every error says what was received, what is allowed and what to do now.
"""

from __future__ import annotations


class VaeRepairError(Exception):
    """The reason why a restoration could not be done, in three sentences.

    Parameters
    ----------
    received : str
        What was found.
    allowed : str
        What would have been accepted.
    remedy : str
        What the user can do now.
    """

    def __init__(self, received: str, allowed: str, remedy: str) -> None:
        super().__init__(f"{received} {allowed} {remedy}")
        self.received = received
        self.allowed = allowed
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """For processes that hand errors on."""
        return _remade, (type(self), self.received, self.allowed, self.remedy)


class InputError(VaeRepairError, ValueError):
    """The image, its axes, its mask or its reference cannot be used."""


class SettingsError(VaeRepairError, ValueError):
    """A setting is unknown, out of its range or contradicts another."""


class DeviceError(VaeRepairError):
    """The chosen device is absent, or PyTorch cannot be loaded for it."""


class DeviceMemoryError(VaeRepairError):
    """The device ran out of memory even with the smallest tile or batch."""


class ModelFileError(VaeRepairError):
    """A model file is missing, damaged, of a later format or of another kind."""


class ImageFileError(VaeRepairError):
    """An image file cannot be read or written."""


class TrainingError(VaeRepairError):
    """Training diverged: the loss or the weights are not finite."""


class Cancelled(VaeRepairError):
    """The caller asked to stop."""

    def __init__(self, phase: str) -> None:
        super().__init__(
            f"The restoration was cancelled in its phase {phase!r}.",
            "Nothing was added or written.",
            "Start it again to restore the image.",
        )


class ClusterError(VaeRepairError):
    """The scheduler cannot be reached, has no workers, or they failed."""


def _remade(kind: type[VaeRepairError], received: str, allowed: str, remedy: str) -> VaeRepairError:
    error = kind.__new__(kind)
    VaeRepairError.__init__(error, received, allowed, remedy)
    return error


class RepairWarning(UserWarning):
    """Something the user should know about a result that is still usable."""
