"""From clean text to token shards, in tasks: encode (runs.py, encode.py), plan.py, gather.py."""
