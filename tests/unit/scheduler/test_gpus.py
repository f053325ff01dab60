"""Which GPUs a worker gets, and how much of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InvalidRequest
from relight.protocol.link import GpuFact
from relight.protocol.manifest import GpuRequest, Resources, parse_gpu
from relight.scheduler.gpus import choose, free_shares, is_whole, matches
from relight.scheduler.placement import NoPlace, Place, Room, place

SLICE = GpuFact(id="m0", kind="A100-80GB-MIG-1G.10GB", parent="g9")
FOUR = tuple(GpuFact(id=f"g{number}", kind="L4") for number in range(4))


def room(*gpus: GpuFact, free: dict[str, float]) -> Room:
    return Room(
        node="n",
        cpu=4,
        memory_mib=4096,
        gpus=gpus,
        free_cpu=4,
        free_memory_mib=4096,
        free_gpus=tuple(gpu for gpu in gpus if is_whole(free[gpu.id])),
        free_shares=tuple((name, share) for name, share in free.items() if not is_whole(share)),
    )


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("h100", GpuRequest(kind="H100")),
        ("A100-80GB:2", GpuRequest(kind="A100-80GB", count=2)),
        ("H100:0.5", GpuRequest(kind="H100", share=0.5)),
        ("L4:.25", GpuRequest(kind="L4", share=0.25)),
        ("H100:1", GpuRequest(kind="H100")),
        ("MIG-1g.10gb", GpuRequest(kind="MIG-1G.10GB")),
        ("A100-MIG-1g.10gb:2", GpuRequest(kind="A100-MIG-1G.10GB", count=2)),
    ],
)
def test_a_gpu_is_asked_for_by_kind_and_by_count_or_share(text: str, request_: GpuRequest) -> None:
    assert parse_gpu(text) == request_


@pytest.mark.parametrize(
    "text", ["", ":2", "A100:0", "A100:-1", "A100:1.5", "A100:0.0", "A100:0.001", "A100:half", "A100:1e-1"]
)
def test_what_is_neither_a_count_nor_a_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"write for example gpu='A100:2' or gpu='L4:0.5'"):
        parse_gpu(text)


@pytest.mark.parametrize(
    ("wanted", "kind", "fits"),
    [
        ("A100", "A100-80GB", True),
        ("A100-80GB", "A100", False),
        ("A10", "A100", False),
        ("ANY", "T4", True),
        ("ANY", SLICE.kind, False),
        ("A100", SLICE.kind, False),
        ("A100-80GB", SLICE.kind, False),
        ("MIG-1G.10GB", SLICE.kind, True),
        ("A100-MIG-1G.10GB", SLICE.kind, True),
        ("A100-80GB-MIG-1G.10GB", SLICE.kind, True),
        ("H100-MIG-1G.10GB", SLICE.kind, False),
        ("A1-MIG-1G.10GB", SLICE.kind, False),
        ("MIG-2G.20GB", SLICE.kind, False),
        ("MIG-1G.10GB", "A100-80GB", False),
    ],
)
def test_a_slice_is_a_gpu_only_to_whom_asks_for_slices(wanted: str, kind: str, fits: bool) -> None:
    assert matches(wanted, GpuFact(id="g", kind=kind)) is fits


def test_a_share_comes_from_the_gpu_that_has_least_left_so_that_whole_ones_stay_whole() -> None:
    free = {"g0": 1.0, "g1": 0.75, "g2": 0.5, "g3": 0.2}

    assert choose(GpuRequest(kind="L4", share=0.5), FOUR, free) == ("g2",)
    assert choose(GpuRequest(kind="L4", share=0.1), FOUR, free) == ("g3",)
    assert choose(GpuRequest(kind="L4", share=0.9), FOUR, free) == ("g0",)
    assert choose(GpuRequest(kind="L4", count=2), FOUR, free) is None


def test_ten_tenths_are_a_gpu_and_an_eleventh_is_too_much() -> None:
    held = [(("g0",), 0.1)] * 9

    assert choose(GpuRequest(kind="L4", share=0.1), FOUR[:1], free_shares(FOUR[:1], held)) == ("g0",)
    assert choose(GpuRequest(kind="L4", share=0.1), FOUR[:1], free_shares(FOUR[:1], [*held, held[0]])) is None


def test_a_share_is_placed_beside_another_and_a_whole_gpu_is_not() -> None:
    node = room(FOUR[0], free={"g0": 0.5})

    assert place(Resources(gpu=(GpuRequest(kind="L4", share=0.5),)), [node]) == Place(
        node="n", gpus=("g0",), gpu_share=0.5
    )
    whole = place(Resources(gpu=(GpuRequest(kind="L4"),)), [node])
    assert isinstance(whole, NoPlace)
    assert whole.reason == "no_capacity:gpu: it asks for 1 × L4, and all of it is in use; it waits its turn"
    assert whole.is_for_now


def test_the_first_of_the_list_that_is_free_is_taken_be_it_a_share() -> None:
    node = room(FOUR[0], SLICE, free={"g0": 0.25, "m0": 1.0})
    wanted = tuple(map(parse_gpu, ("L4", "L4:0.5", "MIG-1g.10gb")))

    assert place(Resources(gpu=wanted), [node]) == Place(node="n", gpus=("m0",))


requests = st.one_of(
    st.builds(GpuRequest, kind=st.just("L4"), count=st.integers(1, 4)),
    st.builds(GpuRequest, kind=st.just("L4"), share=st.sampled_from([0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7])),
)


@given(st.lists(st.tuples(requests, st.booleans()), max_size=40))
def test_no_gpu_is_ever_given_more_than_once(steps: list[tuple[GpuRequest, bool]]) -> None:
    held: list[tuple[tuple[str, ...], float]] = []
    for request, leaves in steps:
        if leaves and held:
            held.pop(0)
        chosen = choose(request, FOUR, free_shares(FOUR, held))
        if chosen is not None:
            assert len(set(chosen)) == request.count
            held.append((chosen, request.share))
        for gpu in FOUR:
            assert sum(share for ids, share in held if gpu.id in ids) <= 1 + 1e-6
