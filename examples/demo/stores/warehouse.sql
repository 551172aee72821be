-- The warehouse as its own application made it, before trueup: the people and businesses of an invented town.
-- Sync metadata and derived columns are not here yet; `trueup migrate` adds them. `loaded_by` is nobody's business but theirs.
CREATE TABLE contacts_master (
    contact_id INTEGER PRIMARY KEY, canonical_name TEXT NOT NULL, first_name TEXT, last_name TEXT, nickname TEXT,
    organization TEXT, job_title TEXT, category_code TEXT, subcategory_code TEXT, llm_context TEXT, social_network TEXT,
    notes TEXT, birthday TEXT, last_seen TEXT, created_at TEXT, updated_at TEXT, loaded_by TEXT DEFAULT 'nightly import'
);
CREATE TABLE contact_identifiers (
    identifier_id TEXT PRIMARY KEY, contact_id INTEGER, identifier_type TEXT, identifier_value TEXT, source_label TEXT,
    is_primary INTEGER, confidence REAL, created_at TEXT, updated_at TEXT
);
CREATE TABLE businesses (
    business_id TEXT PRIMARY KEY, name TEXT NOT NULL, industry TEXT, website TEXT, created_at TEXT, updated_at TEXT
);
CREATE TABLE people_businesses (
    contact_id INTEGER NOT NULL, business_id TEXT NOT NULL, role TEXT, since TEXT, created_at TEXT, updated_at TEXT,
    PRIMARY KEY (contact_id, business_id)
);

INSERT INTO contacts_master (contact_id, canonical_name, first_name, last_name, nickname, organization, job_title, category_code, subcategory_code, llm_context, social_network, notes, birthday, created_at, updated_at) VALUES
    (1001, 'Ada Example', 'Ada', 'Example', NULL, 'Example Bakery', 'baker', 'A', 'A1_CLOSE_FAMILY', NULL, NULL, 'met at the spring fair', '1970-01-10', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1002, 'Ben Sample', 'Ben', 'Sample', NULL, 'Sample Printworks', 'printer', 'B', 'B2_OLD_FRIEND', '{"communication_style": "short messages", "closeness_level": 4}', NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1003, 'Cleo Placeholder', 'Cleo', 'Placeholder', NULL, 'Placeholder Labs', 'researcher', 'C', 'C1_COLLEAGUE', NULL, NULL, NULL, '1972-03-12', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1004, 'Dan Fictional', 'Dan', 'Fictional', NULL, 'Fictional Freight', 'driver', 'D', 'D3_NEIGHBOUR', NULL, NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1005, 'Eve Invented', 'Eve', 'Invented', NULL, 'Example Bakery', 'baker', 'A', 'A1_CLOSE_FAMILY', '{"communication_style": "short messages", "closeness_level": 7}', NULL, 'met at the spring fair', '1974-05-14', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1006, 'Finn Specimen', 'Finn', 'Specimen', NULL, 'Sample Printworks', 'printer', 'B', 'B2_OLD_FRIEND', NULL, NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1007, 'Gia Mockup', 'Gia', 'Mockup', NULL, 'Placeholder Labs', 'researcher', 'C', 'C1_COLLEAGUE', NULL, NULL, NULL, '1976-07-16', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1008, 'Hal Testcase', 'Hal', 'Testcase', NULL, 'Fictional Freight', 'driver', 'D', 'D3_NEIGHBOUR', '{"communication_style": "short messages", "closeness_level": 4}', NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1009, 'Ida Template', 'Ida', 'Template', NULL, 'Example Bakery', 'baker', 'A', 'A1_CLOSE_FAMILY', NULL, NULL, 'met at the spring fair', '1978-09-18', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1010, 'Jon Dummy', 'Jon', 'Dummy', NULL, 'Sample Printworks', 'printer', 'B', 'B2_OLD_FRIEND', NULL, '{"groups": ["chess club"], "also_knows": ["Mia Fixture"]}', NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1011, 'Kim Madeup', 'Kim', 'Madeup', NULL, 'Placeholder Labs', 'researcher', 'C', 'C1_COLLEAGUE', '{"communication_style": "short messages", "closeness_level": 7}', NULL, NULL, '1980-02-11', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1012, 'Leo Pretend', 'Leo', 'Pretend', NULL, 'Fictional Freight', 'driver', 'D', 'D3_NEIGHBOUR', NULL, NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1013, 'Mia Fixture', 'Mia', 'Fixture', NULL, NULL, NULL, 'A', 'A1_CLOSE_FAMILY', NULL, NULL, 'met at the spring fair', '1982-04-13', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1014, 'Ned Imaginary', 'Ned', 'Imaginary', NULL, NULL, NULL, 'B', 'B2_OLD_FRIEND', '{"communication_style": "short messages", "closeness_level": 4}', '{"groups": ["chess club"], "also_knows": ["Quin Demo"]}', NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1015, 'Ola Nobody', 'Ola', 'Nobody', NULL, NULL, NULL, 'C', 'C1_COLLEAGUE', NULL, NULL, NULL, '1984-06-15', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1016, 'Pia Notreal', 'Pia', 'Notreal', NULL, NULL, NULL, 'D', 'D3_NEIGHBOUR', NULL, NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1017, 'Quin Demo', 'Quin', 'Demo', NULL, NULL, NULL, 'A', 'A1_CLOSE_FAMILY', '{"communication_style": "short messages", "closeness_level": 7}', NULL, 'met at the spring fair', '1986-08-17', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1018, 'Rae Example', 'Rae', 'Example', NULL, NULL, NULL, 'B', 'B2_OLD_FRIEND', NULL, NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1019, 'Sol Sample', 'Sol', 'Sample', NULL, NULL, NULL, 'C', 'C1_COLLEAGUE', NULL, NULL, NULL, '1988-01-10', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1020, 'Test Person Twenty', 'Test', 'Person Twenty', NULL, NULL, NULL, 'D', 'D3_NEIGHBOUR', '{"communication_style": "short messages", "closeness_level": 4}', NULL, NULL, NULL, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z');

INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value, source_label, is_primary, confidence, created_at, updated_at) VALUES
    ('I1001-1', 1001, 'email', 'ada.example@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1001-2', 1001, 'phone', '+1 202 555 0101', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1002-1', 1002, 'email', 'ben.sample@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1003-1', 1003, 'email', 'cleo.placeholder@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1003-2', 1003, 'phone', '+1 202 555 0103', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1004-1', 1004, 'email', 'dan.fictional@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1004-2', 1004, 'phone', '+1 202 555 0104', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1005-1', 1005, 'email', 'eve.invented@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1006-1', 1006, 'email', 'finn.specimen@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1006-2', 1006, 'phone', '+1 202 555 0106', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1007-1', 1007, 'email', 'gia.mockup@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1007-2', 1007, 'phone', '+1 202 555 0107', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1008-1', 1008, 'email', 'hal.testcase@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1009-1', 1009, 'email', 'ida.template@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1009-2', 1009, 'phone', '+1 202 555 0109', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1010-1', 1010, 'email', 'jon.dummy@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1010-2', 1010, 'phone', '+1 202 555 0110', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1011-1', 1011, 'email', 'kim.madeup@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1012-1', 1012, 'email', 'leo.pretend@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1012-2', 1012, 'phone', '+1 202 555 0112', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1013-1', 1013, 'email', 'mia.fixture@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1013-2', 1013, 'phone', '+1 202 555 0113', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1014-1', 1014, 'email', 'ned.imaginary@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1015-1', 1015, 'email', 'ola.nobody@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1015-2', 1015, 'phone', '+1 202 555 0115', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1016-1', 1016, 'email', 'pia.notreal@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1016-2', 1016, 'phone', '+1 202 555 0116', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1017-1', 1017, 'email', 'quin.demo@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1018-1', 1018, 'email', 'rae.example@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1018-2', 1018, 'phone', '+1 202 555 0118', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1019-1', 1019, 'email', 'sol.sample@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1019-2', 1019, 'phone', '+1 202 555 0119', 'mobile', 0, 0.8, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('I1020-1', 1020, 'email', 'test.person-twenty@example.com', 'work', 1, 0.9, '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z');

INSERT INTO businesses (business_id, name, industry, website, created_at, updated_at) VALUES
    ('B001', 'Example Bakery', 'food', 'https://bakery.example.com', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('B002', 'Sample Printworks', 'printing', 'https://print.example.com', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('B003', 'Placeholder Labs', 'research', 'https://labs.example.org', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    ('B004', 'Fictional Freight', 'transport', 'https://freight.example.org', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z');

INSERT INTO people_businesses (contact_id, business_id, role, since, created_at, updated_at) VALUES
    (1001, 'B001', 'baker', '2010-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1002, 'B002', 'printer', '2011-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1003, 'B003', 'researcher', '2012-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1004, 'B004', 'driver', '2013-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1005, 'B001', 'baker', '2014-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1006, 'B002', 'printer', '2015-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1008, 'B004', 'driver', '2017-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1009, 'B001', 'baker', '2018-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1010, 'B002', 'printer', '2019-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1011, 'B003', 'researcher', '2020-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z'),
    (1012, 'B004', 'driver', '2021-09-01', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z');
