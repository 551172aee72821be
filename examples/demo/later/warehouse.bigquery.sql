-- What happened in the warehouse since the stores last agreed, where the warehouse is in BigQuery.

-- An analyst learnt more about 1011; nobody will see it in a plan, for the field is sensitive.
UPDATE contacts_master
SET llm_context = REPLACE(llm_context, 'short messages', 'long letters'),
    updated_at = FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%SZ', CURRENT_TIMESTAMP())
WHERE contact_id = 1011;

-- A business moved its website.
UPDATE businesses
SET website = 'https://printworks.example.org',
    updated_at = FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%SZ', CURRENT_TIMESTAMP())
WHERE business_id = 'B002';
