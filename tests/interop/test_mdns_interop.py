"""Hosts on one network find each other by multicast DNS, whichever of the implementations they run."""

import trio

from tests.support.mdns_process import MdnsProcess, mdns_process
from tests.support.namespaces import two_hosts
from tests.support.reference import reference_peer

TOPIC = bytes(range(32))
LIMIT_SECONDS = 240


async def next_found(process: MdnsProcess) -> str:
    return await trio.to_thread.run_sync(process.next_found, abandon_on_cancel=True)


async def test_two_of_ours_find_each_other() -> None:
    with (
        trio.fail_after(LIMIT_SECONDS),
        two_hosts() as (here, there),
        mdns_process(TOPIC, 4001, wrapper=here.wrapper) as first,
        mdns_process(TOPIC, 4002, wrapper=there.wrapper) as second,
    ):
        assert await next_found(second) == f"{here.address}:4001"
        assert await next_found(first) == f"{there.address}:4002"


async def test_two_processes_of_one_host_find_each_other() -> None:
    with (
        trio.fail_after(LIMIT_SECONDS),
        two_hosts() as (here, _),
        mdns_process(TOPIC, 4001, wrapper=here.wrapper) as first,
        mdns_process(TOPIC, 4002, wrapper=here.wrapper) as second,
    ):
        assert await next_found(second) == f"{here.address}:4001"
        assert await next_found(first) == f"{here.address}:4002"


async def test_we_find_whom_the_reference_announces() -> None:
    with trio.fail_after(LIMIT_SECONDS), two_hosts() as (here, there):
        async with reference_peer(wrapper=there.wrapper) as peer:
            await peer.call("discovery.announce", topic=TOPIC.hex(), port=4002)
            with mdns_process(TOPIC, wrapper=here.wrapper) as ours:
                assert await next_found(ours) == f"{there.address}:4002"


async def test_the_reference_finds_whom_we_announce() -> None:
    with trio.fail_after(LIMIT_SECONDS), two_hosts() as (here, there):
        async with reference_peer(wrapper=there.wrapper) as peer:
            with mdns_process(TOPIC, 4001, wrapper=here.wrapper):
                await peer.call("discovery.lookup", topic=TOPIC.hex())
                assert await peer.call("discovery.found", topic=TOPIC.hex()) == {"peers": [f"{here.address}:4001"]}
