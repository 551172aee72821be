-- What happened in the local notebook since the stores last agreed. Its clock shows the time in Phoenix, without saying so.

-- The application changes another field of the same person.
UPDATE contacts SET remarks = 'back from holiday', changed_at = datetime('now', '-7 hours') WHERE contact_id = '1002';

-- The application changes this nickname too; the higher version wins.
UPDATE contacts
SET nick = 'Cle', rev = rev + 2, rev_at = datetime('now', '-7 hours'), rev_by = 'local'
WHERE contact_id = '1003';

-- The application changes this job too; the later edit wins.
UPDATE contacts SET job = 'pilot', changed_at = datetime('now', '-7 hours', '-30 minutes') WHERE contact_id = '1004';

-- The application changes this note too, and neither says when.
UPDATE contacts SET remarks = 'prefers the phone' WHERE contact_id = '1005';

-- Deleted here, and nobody else changed it: it goes everywhere, with its addresses.
DELETE FROM contacts WHERE contact_id = '1007';

-- The application deleted this one: it comes back, for an edit wins over a delete.
UPDATE contacts SET remarks = 'moved to Springfield', changed_at = datetime('now', '-7 hours') WHERE contact_id = '1008';

-- A part of the JSON; the application changes another part.
UPDATE contacts
SET network = json_set(network, '$.also_knows', json('["Mia Fixture", "Ned Imaginary"]')),
    changed_at = datetime('now', '-7 hours')
WHERE contact_id = '1010';

-- A new number.
UPDATE identifiers SET value = '(202) 555-0199', changed_at = datetime('now', '-7 hours') WHERE id = 'I1012-2';

-- A new job.
INSERT INTO jobs (contact, firm, job, since, made_at, changed_at)
VALUES ('1013', 'B004', 'mechanic', '2026-02-02', datetime('now', '-7 hours'), datetime('now', '-7 hours'));
