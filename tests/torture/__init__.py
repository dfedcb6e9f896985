"""Kill rounds: real processes, killed at random moments, and an audit of what they left.

    make torture ROUNDS=100                     as many rounds, from seed 1 on, one on each core
    make torture ROUNDS=1 SEED=417              that round again
    make torture ROUNDS=20 ENGINE=kcl           kcl, or both; poll is the default
    python -m tests.torture --help              the same, and JOBS, --json, --keep

A round is made of its seed (`plan`): a stream of 1 to 4 shards on the embedded AWS, some hundred records,
among them such as raise, cannot be decoded, segfault, exit, kill their process, hang, are flaky, throttled
or filtered, some packed as the Kinesis Producer Library packs; a way to process them (`processor`: plain,
threads, coroutines, batches; by key, by shard, in any order); a state and a quarantine.

    life 1   streamheal run …    a worker is killed, a cell, a spare │ the stores answer late, wrong, or not at all
             kill -9 of the host
    life 2   streamheal run …    all of it is frozen for a while, then SIGTERM
    life 3   streamheal run … --until-caught-up                      ends by itself
    audit    the effects log against the stream, the quarantine and the checkpoints

Everybody appends to one file, a line a write (`book`): the processor each record's start and its effect, the
round each blow before it falls. So the order of the lines is the order of what happened. After every life
the audit (`audit`) reads that file, the quarantine and the checkpoints with code of its own. Nothing of
streamheal's is asked.

    lost           a record behind a checkpoint, or at the end, that is neither done nor in quarantine
    innocents      a healthy or filtered record in quarantine
    out of order   a record's first effect before that of one before it in its key (ordering shard: its shard)
    doubles        a record that ran again without a death that it shared, or in more than one shared death a life
    unsettled      a sick record that took effect, a filtered one that was run, one set aside twice, a wrong reason
    left behind    a process that outlived its host, a host that does not end, an exit code that is not documented

What would make the oracle wrong is kept out. Whoever is to be killed is frozen before, and the book is read
meanwhile: no record's cell is killed twice, nor a host twice in which it alone ran, because what dies alone
twice is its own killer, as far as anybody could know (docs/judging.md). Should it happen all the same, the
record counts as excused. No more workers are killed in a life than stop a shard. Where the rules leave a
sick record undecided at the end of a backlog, the host calls a human and ends with exit code 3: then the
stream goes on with healthy records, and another life must end with 0.

A killed owner of a DynamoDB state is waited for for 30 s by its successor. Rounds do not have them: they take its
row away, as if they had passed.
"""
