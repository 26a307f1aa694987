"""Who uses this machine, by its own account: a name for records, which nobody vouches for."""

from __future__ import annotations

import getpass


def login(otherwise: str = "unknown") -> str:
    """The login of whoever runs this process; `otherwise` where there is no such user, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return otherwise
