"""Proof: a stream's range read again, and compared with what a processor says that it did.

effects.py    the log of effects that the processor wrote itself
scratch.py    that log and the quarantine, sorted by position on disk
reading.py    the stream's records once more, as far as each shard is checkpointed
compare.py    record by record: done, filtered, set aside; or lost, twice, out of order
"""
