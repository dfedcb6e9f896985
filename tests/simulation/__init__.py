"""The real runtime in made-up worlds, and an oracle that knows the truth in them.

    python -m tests.simulation 0 1000      a thousand worlds, on all cores
    python -m tests.simulation show 417    one of them, shrunk if it fails, told line by line

A world is a pure function of its seed. `Runtime`, with all that it is made of, runs over a made-up
clock, engine, quarantine, state and workers. Whatever happens there happens a moment after it was
asked for: a message is read, a record starts, takes effect, is marked, a write arrives, its answer
comes back or does not; a process or the host dies in between.

    generate.py   what a seed stands for
    clock.py      an event loop without waiting
    world.py      lives of a host, what running does, faults
    engine.py     leases, batches, checkpoints
    stores.py     quarantine and state
    seat.py       a shard's place among the workers: implements `port.Seat`
    pool.py       worker processes, and how they die
    lanes.py      workers as they are: lanes, calls, marks
    cells.py      records that run alone
    caution.py    asking before anything begins, where hosts have died
    runs.py       a record in a worker or a cell, and its tries
    hosts.py      how hosts die, and what is durably known of who ran
    watch.py      what every core hears and decides
    oracle.py     what truly happened, and what must never
    shrink.py     the smallest world that fails in the same way
    crowd.py      many worlds
    mutants.py    the runtime broken on purpose, and how soon that is noticed
"""
