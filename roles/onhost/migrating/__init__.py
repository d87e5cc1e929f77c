"""Programs about migrations, run by the release's own Python beside its Django.

They tell what each pending migration means for the code that is still running. All modules here
import without Django; asking needs the project's own (4.2 or newer), set up. Answers are plain data
that `json.dumps` takes.

    plan.read_plan(connection, overrides, heavy_bytes)   one database's pending migrations, judged
    deciding.decide(plan)                       nothing | expand | expand-contract | stop
    deciding.decide_together({alias: plan})     the same for several databases at once
    plan.whole_hash({alias: plan})              what was shown, so that nothing else runs
    reverse.read_reverse(connection, targets)   what going back would take, before any step
    judging.classify(operation, app, state, connection)     one operation

What the words mean is at the top of `words`. Phase of a migration: its marker, else the join of its
operations: any < before, after < unknown < offline, and before + after in one file = offline.
"offline" wins over "unknown", because whatever the unknown part does, the known part already breaks
one side.

Where it comes from: measured by tests/migrations (v1 code on v2's schema and the other way round,
on real databases); docs/migrations.md has the table. Judged stricter than measured where a database
is laxer by accident, never laxer.

From the words up, no module imports what imports it: words, scene, facts; tables, columns, kinds,
constraints; altering, fields, models, byhand; markers, judging (which knows them all); migration,
server; plan, reverse; deciding needs only the words.
"""
