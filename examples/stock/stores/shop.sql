-- The shop's database, empty as yet.
CREATE TABLE offers (
    warehouse TEXT NOT NULL, article TEXT NOT NULL, available INTEGER, price TEXT, condition TEXT, changed_at TEXT,
    headline TEXT, PRIMARY KEY (warehouse, article)
);
