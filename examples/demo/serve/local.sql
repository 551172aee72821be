-- What the notebook goes on doing under `trueup demo --serve`: a line at a time, in turn. {n} is how often.
UPDATE contacts SET remarks = 'seen {n} times', changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 hours') WHERE contact_id = '1002';
UPDATE contacts SET nick = 'Dan {n}', changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 hours') WHERE contact_id = '1004';
