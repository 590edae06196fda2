"""Which names a viewer answers to: a page of another site must not read scenes through a name of its own.

A site can let its name point to this machine's address after its page is loaded (DNS rebinding); the browser then takes
the viewer for a part of that site. The request still carries the site's name as its Host, and is refused.
"""

import ipaddress
import os
import socket

VARIABLE = "FOURDNEX_VIEWER_HOSTS"
"""Environment variable with further names, separated by commas, such as that of a proxy."""


def is_known_host(header: str | None, listening: str) -> bool:
    """Whether the Host of a request names this server: an address, this machine, or a name in `VARIABLE`.

    Args:
        header: value of the header `Host`; None or empty (HTTP/1.0) is accepted, since browsers always send it.
        listening: address or name that the server listens on.
    """
    if not header:
        return True
    name = header.rsplit("]", 1)[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]
    name = name.rstrip(".").casefold()
    try:
        ipaddress.ip_address(name)
        return True  # nobody else can claim an address
    except ValueError:
        pass
    named = os.environ.get(VARIABLE, "").split(",")
    known = {"localhost", listening, socket.gethostname(), *named}
    names = {each.strip().rstrip(".").casefold() for each in known}
    return name.endswith(".localhost") or name in names - {""}
