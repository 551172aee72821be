-- What happened in the application since the stores last agreed. It raises the version with some edits and forgets it with
-- others, as applications do; then its own updatedAt says when.

-- Edited here only.
UPDATE people SET job_title = 'head baker', updatedAt = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = '1001';

-- The local notebook changes the notes of the same person: two fields, no conflict.
UPDATE people SET company = 'Placeholder Labs', updatedAt = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = '1002';

-- The notebook changes this nickname too, and raises the version further.
UPDATE people
SET nickname = 'Clee',
    sync_metadata = json_set(sync_metadata, '$.version', json_extract(sync_metadata, '$.version') + 1,
                             '$.last_updated', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), '$.last_updated_by', 'app')
WHERE id = '1003';

-- The notebook changes this job too, half an hour earlier.
UPDATE people SET job_title = 'dispatcher', updatedAt = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = '1004';

-- The notebook changes this note too, and neither says when: only a person can decide.
UPDATE people SET notes = 'prefers e-mail' WHERE id = '1005';

-- Deleted here; the notebook edits it.
DELETE FROM people WHERE id = '1008';

-- There is no category Q.
UPDATE people SET category = 'Q', updatedAt = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = '1009';

-- A part of the JSON; the notebook changes another part.
UPDATE people
SET network = json_set(network, '$.groups', json('["chess club", "choir"]')),
    updatedAt = strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
WHERE id = '1010';

-- Somebody new, with an address and an employer.
INSERT INTO people (id, display_name, given_name, family_name, category, subcategory, avatar_color, createdAt, updatedAt)
VALUES ('1021', 'Una Newcomer', 'Una', 'Newcomer', 'C', 'C1_COLLEAGUE', 'violet',
        strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
INSERT INTO contact_points (id, person_id, kind, identifier_value, source_label, is_primary, createdAt, updatedAt)
VALUES ('I1021-1', '1021', 'email', 'Una.Newcomer@Example.com', 'work', 1,
        strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
INSERT INTO employments (person_id, company_id, job_title, started_on, createdAt, updatedAt)
VALUES ('1021', 'B003', 'trainee', '2026-02-01',
        strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
