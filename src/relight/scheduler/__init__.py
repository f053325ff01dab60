"""Who runs what, where: queues, leases, placement and scaling.

The deciding is pure (`placement`, `autoscale`); `loop` is what acts, `census` what answers.  It knows no HTTP and no link: orders
leave through a seam, ends and losses are told to whoever built it.
"""
