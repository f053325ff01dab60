"""What tries to get out: from a worker that was forked, from one that was started by itself, and from inside a template."""

from __future__ import annotations

import os

import attempts

import relight

app = relight.App("escape")
Told = dict[str, str]

if os.environ.get("ESCAPE") == "at import":
    AT_IMPORT = {**attempts.outcomes(), "capabilities": f"{attempts.capabilities():x}"}
else:
    AT_IMPORT = {}


@app.function()
def from_a_worker() -> Told:
    """In a fork of a template."""
    return attempts.outcomes()


@app.function(template=False)
def from_a_worker_alone() -> Told:
    """In a process that was started for it."""
    return attempts.outcomes()


@app.function(env={"ESCAPE": "at import"}, startup_timeout=120)
def from_a_template() -> Told:
    """What became of it in the template, as this module was imported there."""
    return AT_IMPORT


@app.function(network="host")
def from_the_hosts_network() -> Told:
    """What is to be refused there, too."""
    names = (
        *("reach_a_service_of_the_host_by_a_name_without_a_folder", "see_the_wire", "send_raw_packets"),
        *("reach_the_servers_own_socket", "be_root_in_a_namespace_of_users", "speak_to_the_kernels_audit"),
    )
    return {name: attempts.outcome(name) for name in names}


@app.function(template=False, network="host")
def from_the_hosts_network_alone() -> Told:
    """As above."""
    return from_the_hosts_network.local()
