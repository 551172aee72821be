-- What the application goes on doing under `trueup demo --serve`: a line at a time, in turn. {n} is how often.
UPDATE people SET job_title = 'baker, shift {n}', updatedAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '1001';
UPDATE people SET company = 'Placeholder Labs, floor {n}', updatedAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '1006';
UPDATE people SET notes = 'called {n} times', updatedAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '1010';
