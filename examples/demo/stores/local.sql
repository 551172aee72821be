-- A notebook on somebody's own machine. It knows two of the people already, and what rings when they call (`ringtone`).
CREATE TABLE contacts (
    contact_id TEXT PRIMARY KEY, name TEXT, given TEXT, family TEXT, nick TEXT, company TEXT, job TEXT, cat TEXT,
    subcat TEXT, context TEXT, network TEXT, remarks TEXT, born TEXT, seen_at TEXT, made_at TEXT, changed_at TEXT,
    ringtone TEXT
);
CREATE TABLE identifiers (
    id TEXT PRIMARY KEY, contact TEXT, kind TEXT, value TEXT, label TEXT, main INTEGER, made_at TEXT, changed_at TEXT
);
CREATE TABLE firms (id TEXT PRIMARY KEY, firm TEXT, branch TEXT, made_at TEXT, changed_at TEXT);
CREATE TABLE jobs (
    contact TEXT NOT NULL, firm TEXT NOT NULL, job TEXT, since TEXT, made_at TEXT, changed_at TEXT,
    PRIMARY KEY (contact, firm)
);

-- Times without a zone are those of a clock in Phoenix, seven hours behind UTC.
INSERT INTO contacts (contact_id, name, given, family, seen_at, made_at, changed_at, ringtone) VALUES
    ('1001', 'Ada Example', 'Ada', 'Example', '2026-01-04 18:30:00', '2026-01-03 10:00:00', '2026-01-03 10:00:00', 'bells'),
    ('1002', 'Ben Sample', 'Ben', 'Sample', '2026-01-02 08:15:00', '2026-01-03 10:00:00', '2026-01-03 10:00:00', 'drums');
