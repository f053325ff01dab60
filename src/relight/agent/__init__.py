"""The node: what runs on a machine that lends itself to the server.

    main ─▶ node ─▶ link      (one connection to the server: orders in, reports out)
                └─▶ workers ─▶ worker ─▶ sandbox, channel, output

It never opens a user's value, and it outlives the server: what ended while nobody listened is told when somebody does.
"""
