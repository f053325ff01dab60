"""Each attempt to get out is refused as it should be: from each kind of process, as root's and as a user's agent."""

from __future__ import annotations

import pytest

from escape.attempts import ATTEMPTS
from escape.conftest import Place

pytestmark = pytest.mark.root
INSIDE = ("from_a_worker", "from_a_worker_alone", "from_a_template")
TEMPLATE_CAPABILITIES = 1 << 21 | 1 << 18  # to put what it forks into shells


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_is_refused(place: Place, inside: str, name: str) -> None:
    told = place.escapes[inside]

    assert isinstance(told, dict), told
    said = told[name].removeprefix("RuntimeError('").removesuffix("')")
    assert said in ATTEMPTS[name].refusals


def test_the_template_tried_with_the_capabilities_that_it_holds(place: Place) -> None:
    held = int(place.escapes["from_a_template"]["capabilities"], 16)

    assert held == TEMPLATE_CAPABILITIES, place.server.get("/v1/starts?app=escape&function=from_a_template")["starts"][
        0
    ]["why"]


@pytest.mark.parametrize("inside", ["from_the_hosts_network", "from_the_hosts_network_alone"])
def test_on_the_hosts_network_the_rest_of_the_host_is_as_far_as_ever(place: Place, inside: str) -> None:
    told = place.escapes[inside]

    assert told == {
        "reach_a_service_of_the_host_by_a_name_without_a_folder": "EPERM",  # by Landlock: it is that network's
        "see_the_wire": "EAFNOSUPPORT",
        "send_raw_packets": "EPERM",
        "reach_the_servers_own_socket": "ENOENT",
        "be_root_in_a_namespace_of_users": "EPERM",
        "speak_to_the_kernels_audit": "EAFNOSUPPORT",
    }


WITNESSES = [
    name for name, attempt in ATTEMPTS.items() if attempt.witness in ("user", "server", "root", "mounts", "names")
]


@pytest.mark.parametrize("name", WITNESSES)
def test_it_would_work_without_the_walls(place: Place, name: str) -> None:
    if place.person.uid and ATTEMPTS[name].witness in ("root", "mounts", "names"):
        return  # it is a user's own rights that stop it there: nothing to see

    assert place.witness(name).startswith("done")
