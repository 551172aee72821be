-- What happened in the warehouse since the stores last agreed.

-- An analyst learnt more about 1011; nobody will see it in a plan, for the field is sensitive.
UPDATE contacts_master
SET llm_context = json_set(llm_context, '$.communication_style', 'long letters'),
    updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
WHERE contact_id = 1011;

-- A business moved its website.
UPDATE businesses
SET website = 'https://printworks.example.org', updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
WHERE business_id = 'B002';
