"""Commands that move the champion of the registry by hand."""

import getpass
from typing import Annotated

from fourdnex.commands.declaration import Result, command


@command("3 --why 'sharper on portraits'")
def promote(
    version: Annotated[str, "number of a version of fourdnex-adapter"],
    *,
    why: Annotated[str, "the reason, recorded with the version"],
) -> Result:
    """Make a registered version the champion by hand, whatever the policy says of it."""
    return _promote(version, why)


@command("--why 'flickers on night scenes'")
def rollback(*, why: Annotated[str, "the reason, recorded with the version"]) -> Result:
    """Make the former champion the champion again."""
    from fourdnex import tracking

    former = tracking.resolve_version(tracking.FORMER_CHAMPION)
    if former is None:
        raise ValueError("registry: expected a version with the alias 'former-champion', found none")
    return _promote(former, why)


def _promote(version: str, why: str) -> Result:
    """Promote a version, with user and reason as tags."""
    from fourdnex import tracking

    if not why.strip():
        raise ValueError("--why: expected a reason, got an empty text")
    before = tracking.resolve_version(tracking.CHAMPION)
    tracking.adapter_version(version)  # it must exist, with its files
    tracking.promote(version, tags={"promoted_by": getpass.getuser(), "promoted_why": why.strip()})
    print(f"champion: version {version}" + (f", before: version {before}" if before not in (None, version) else ""))
    return Result(data={"champion": version, "former_champion": before})
