-- The stock ledger, as its application made it. trueup adds the columns it needs (`trueup migrate`).
CREATE TABLE stock_levels (
    warehouse TEXT NOT NULL, article TEXT NOT NULL, quantity INTEGER NOT NULL, unit_price TEXT, condition TEXT NOT NULL,
    bin TEXT, lots TEXT, counted_at TEXT, changed_at TEXT, PRIMARY KEY (warehouse, article)
);
INSERT INTO stock_levels (warehouse, article, quantity, unit_price, condition, bin, lots, counted_at) VALUES
    ('north', 'bolt-m8', 1200, '0.12', 'sellable', 'A-01-04', '["L-2201","L-2207"]', '2026-05-04T08:30:00Z'),
    ('north', 'hinge-90', 85, '4.50', 'sellable', 'A-02-11', '["L-2190"]', '2026-05-04T08:45:00Z'),
    ('north', 'lamp-oak', 14, '89.00', 'sellable', 'B-01-01', NULL, '2026-05-04T09:10:00Z'),
    ('south', 'bolt-m8', 300, '0.12', 'sellable', 'C-03-02', '["L-2207"]', '2026-05-05T07:55:00Z'),
    ('south', 'paint-white', 41, '17.90', 'sellable', 'C-04-07', '["L-2213"]', '2026-05-05T08:20:00Z'),
    ('south', 'lamp-oak', 3, '89.00', 'damaged', 'D-01-01', NULL, '2026-05-05T08:40:00Z');
