"""The native HTTP API: who may ask, what each path means, and how it is said in HTTP.

It decides nothing about calls: `control` does, and the gateway knows it only by the face in `platform.py`.
"""
