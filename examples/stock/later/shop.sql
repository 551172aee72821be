-- A new price for the lamps that the scanners count at the same time: another field, so both stand.
UPDATE offers SET price = '79.00' WHERE warehouse = 'north' AND article = 'lamp-oak';
