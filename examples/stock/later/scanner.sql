-- A count on the floor: fewer lamps, a new lot of bolts, an article that nobody knew was there, and a slip of the finger.
UPDATE counts SET counted = 11, counted_at = '2026-06-01T06:15:00Z' WHERE site = 'north' AND sku = 'lamp-oak';
UPDATE counts SET lots = '["L-2201","L-2207","L-2230"]' WHERE site = 'north' AND sku = 'bolt-m8';
INSERT INTO counts (site, sku, counted, condition, bin, counted_at) VALUES
    ('south', 'rope-10m', 60, 'sellable', 'C-05-01', '2026-06-01T06:40:00Z');
UPDATE counts SET counted = -5 WHERE site = 'north' AND sku = 'hinge-90';
