-- What the nightly import goes on doing under `trueup demo --serve`: a line at a time, in turn. {n} is how often.
UPDATE contacts_master SET organization = 'Sample Printworks {n}', updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE contact_id = 1003;
UPDATE businesses SET industry = 'printing {n}', updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE business_id = 'B002';
