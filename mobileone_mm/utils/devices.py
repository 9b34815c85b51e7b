"""Find the device that an option names."""

import torch

from .errors import PreflightError

__all__ = ['find_device']


def find_device(name: str) -> torch.device:
    """The device of a name such as ``cpu`` or ``cuda:0``, after a check that it can be used.

    Raises:
        PreflightError: The device does not exist here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ', '.join(['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))])
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PreflightError(f'--device {name}: cannot be used here ({reason}); there are '
                             f'{found}') from error
    return device
