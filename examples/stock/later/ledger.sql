-- The white paint may not be sold: it leaves the shop, and stays everywhere else.
UPDATE stock_levels SET condition = 'quarantined' WHERE warehouse = 'south' AND article = 'paint-white';
