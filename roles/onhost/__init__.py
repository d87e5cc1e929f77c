"""The few programs that run on a host: standard library only, Python 3.8 and newer.

They are never imported here: their text travels over standard input (see ``roles/onhost/ship.py``).
"""
