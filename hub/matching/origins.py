"""Which origins of web pages are meant: an origin, all subdomains of a host, or every one. Pure."""

import re
from collections.abc import Sequence

_LABELS = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Origins:
    """``listed``: as `hub.config.values.origin` has them. ``every``: whether ``*`` is among them."""

    def __init__(self, listed: Sequence[str]) -> None:
        self._exact = frozenset(each for each in listed if "*" not in each)
        self.every = "*" in listed
        # "https://*.example.com" is "https://" and ".example.com".
        patterns = (each.split("*") for each in listed if "://*." in each)
        self._patterns = tuple((scheme, rest) for scheme, rest in patterns)

    def __bool__(self) -> bool:
        return self.every or bool(self._exact or self._patterns)

    def __contains__(self, origin: str) -> bool:
        """Whether a browser that sends this ``Origin`` is meant. ``*.`` stands for one label or more of a host."""
        if self.every or origin in self._exact:
            return True
        return any(
            # Labels of a host name, such as a or a.b; never a part of a port, of a path or of another host.
            origin.startswith(scheme)
            and origin.endswith(rest)
            and _LABELS.fullmatch(origin, len(scheme), len(origin) - len(rest))
            for scheme, rest in self._patterns
        )
