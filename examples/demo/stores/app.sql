-- The application's database, empty as yet: its own names for everything, and a column that only it knows (`avatar_color`).
CREATE TABLE people (
    id TEXT PRIMARY KEY, display_name TEXT NOT NULL, given_name TEXT, family_name TEXT, nickname TEXT, company TEXT,
    job_title TEXT, category TEXT, subcategory TEXT, llm_context TEXT, network TEXT, notes TEXT, birthday TEXT,
    last_seen_ms INTEGER, createdAt TEXT, updatedAt TEXT, avatar_color TEXT DEFAULT 'green'
);
CREATE TABLE contact_points (
    id TEXT PRIMARY KEY, person_id TEXT, kind TEXT, identifier_value TEXT, source_label TEXT, is_primary INTEGER,
    confidence REAL, createdAt TEXT, updatedAt TEXT
);
CREATE TABLE companies (
    id TEXT PRIMARY KEY, company_name TEXT NOT NULL, industry TEXT, website TEXT, createdAt TEXT, updatedAt TEXT
);
CREATE TABLE employments (
    person_id TEXT NOT NULL, company_id TEXT NOT NULL, job_title TEXT, started_on TEXT, createdAt TEXT, updatedAt TEXT,
    PRIMARY KEY (person_id, company_id)
);
