"""Let several processes, each a rank, write one output: a temporary and notes that all share.

Nothing is sent between ranks. The temporary, the *staging*, has a name that follows from that
of the output and the run id, so every rank finds it:

    .NAME.reinit-<12 digits>/
        reinit-ranks      the plan of rank 0: a staging without this mark is not one
        folder/           the files of the output at their sizes; a lone one is `file`
        here-3            what rank 3 planned, when it came
        beat-3            written again and again while rank 3 is alive
        note-3            what rank 3 wrote, when all of it is written
        failed-3          why rank 3 failed
        done              the output has its name

A rank 0 that fails before it makes one says so in another of that form, see `refusal`.

Rank 0 makes it under another name and renames it, and so is each text in it: whatever can be
seen is whole. Rank 0 removes it when the others have seen how the run ended.
"""
