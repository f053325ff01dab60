"""The way out of a sandbox: a network with nothing in it but a loopback, and a process outside that connects for it.

    sandbox's network                         │ the machine's network
    connect() ─ SYN ─▶ rule: copy, drop ──────┼─▶ connector: may it?  ─ connect() ─▶ the world
                  ┌◀── the same SYN, marked ──┼── it could            ◀──────────────
                  │◀── RST, or ICMP ──────────┼── it could not, or may not
                  ▼
    rule: hand to the listener ── bytes ──────┼─▶ connector           ◀── bytes ───▶ the world

Every address is taken for the network's own, so that whatever the sandbox sends comes back in on its loopback, where a few
packet rules meet it.  The first packet of a connection is copied to the connector and dropped.  The connector does
outside what was asked for inside, and only then sends the packet once more, marked, whereupon the kernel hands it to
a socket that listens, for any address and port.  So `connect` inside takes as long as it does outside, and fails with
the same error.  Datagrams are copied and dropped, too; their answers are made by hand.  Names are resolved by the
connector, which is how a list of names is enforced.

There is no interface, address, route or rule outside: two sandboxes have no way to each other, and nothing has to be
permitted by, or put right on, the machine.  All of it is made by the owner of the sandbox's namespaces, root or not,
together with them and so ahead of a start.  The rules inside are comfort, not the wall: who could change them would
only cut himself off, as the one way out is the connector, which decides by what it is about to do itself.

Where the kernel has no such rules, the sandbox has a proxy inside that leads to the same connector, and programs are told of
it by their environment (`proxy.py`).
"""
