"""Which tests run on the same worker of pytest-xdist: those that share a server, so that it is started once."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling


class ByServer(LoadScopeScheduling):
    """Files as a whole; of the attempts to escape, all that is tried at one place."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if "/escape/" not in file:
            return file
        return "rootless" if "[rootless" in test else "root"
