-- The scanners' database, empty as yet: its own names, and a column that only it knows (`device`).
CREATE TABLE counts (
    site TEXT NOT NULL, sku TEXT NOT NULL, counted INTEGER, condition TEXT, bin TEXT, lots TEXT, counted_at TEXT,
    changed_at TEXT, device TEXT DEFAULT 'unassigned', PRIMARY KEY (site, sku)
);
