"""What the platform does, said once and without HTTP: calls, deploys, runs, logs, nodes, tokens.

Gateway, links, dialects and dashboard are translators onto it.  Every method takes the workspace first.
"""
