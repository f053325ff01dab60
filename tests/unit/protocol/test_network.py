"""What a function may reach, as it is said and as it travels."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from relight.protocol.network import canonical, reach_of


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("egress", "egress"),
        ("none", "none"),
        ("host", "host"),
        ("Example.NET.", "example.net"),
        (["b.test", "a.test", "b.test"], "a.test,b.test"),
        (("10.0.0.0/8", "*.Example.com"), "*.example.com,10.0.0.0/8"),
        ("198.51.100.7", "198.51.100.7/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("169.254.169.254", "169.254.169.254/32"),
    ],
)
def test_what_is_said_has_one_text_which_says_itself(said: Any, text: str) -> None:
    assert canonical(said) == text
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("moon", "'moon' is none of 'egress', 'none', 'host', nor a name"),
        ("", "'' is none of"),
        ([], "an empty list reaches nothing; say 'none'"),
        (["egress"], "'egress' is none of"),
        (["*"], "'\\*' is none of"),
        (["a.*.test"], "is none of"),
        (["https://example.net"], "is none of"),
        (["10.0.0.1/8"], "'10.0.0.1/8' is no network: .*host bits"),
        (["10.0.0.999"], "is no network"),
        (["127.0.0.1"], "a sandbox's own loopback; say 'host'"),
        (["::1"], "a sandbox's own loopback"),
        ([7], "not all texts"),
        (["x.test"] * 201, "201 names and networks, and 200 are the most"),
    ],
)
def test_what_cannot_be_is_refused_with_why(said: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        canonical(said)


def test_a_text_is_opened_as_names_suffixes_and_networks() -> None:
    reach = reach_of(canonical(["example.net", "*.example.com", "10.0.0.0/8"]))

    assert reach.networks == (ip_network("10.0.0.0/8"),)
    listed = {"example.net", "a.example.com", "a.b.example.com"}
    others = {"example.com", "badexample.com", "files.example.net", "org", ""}
    assert {name for name in listed | others if reach.has_name(name)} == listed
    assert not reach.is_open
    assert reach_of("egress").has_name("anything.test")
