//! The sandbox, held to what was measured on a real Twenty, version 2.21, line by line. [`FACTS`] lists the lines that a client can
//! notice with the tests that would fail without them; one test checks that those are there.
//!
//! With `TRUEUP_TEST_TWENTY_URL` and `TRUEUP_TEST_TWENTY_KEY` the tests that a real server can take run against it instead. They
//! remove the records they make and leave a few custom fields named `trueup...` on people.

#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "sandbox/command.rs"]
mod command;
#[path = "sandbox/faults.rs"]
mod faults;
#[path = "sandbox/filters.rs"]
mod filters;
#[path = "sandbox/graphql.rs"]
mod graphql;
#[path = "sandbox/harness.rs"]
mod harness;
#[path = "sandbox/hooks.rs"]
mod hooks;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/objects.rs"]
mod objects;
#[path = "sandbox/rest.rs"]
mod rest;
#[path = "sandbox/upsert.rs"]
mod upsert;
#[path = "sandbox/values.rs"]
mod values;

/// Each fact and its tests.
#[rustfmt::skip]
const FACTS: &[(&str, &[&str])] = &[
    // REST core
    ("missing key 403, bad key 401", &["rest::a_missing_key_is_403_and_a_bad_one_401", "graphql::a_missing_key_over_graphql_is_403_and_a_bad_one_401"]),
    ("GET people: data, totalCount, pageInfo", &["rest::a_listing_has_data_total_count_and_page_info"]),
    ("GET one; 404 when soft-deleted", &["rest::a_record_is_read_by_id_and_404_when_soft_deleted"]),
    ("POST people: 201 createPerson", &["rest::a_create_is_201_with_create_person"]),
    ("POST batch: a bare array, 201 createPeople", &["rest::a_batch_is_a_bare_array_and_201_with_create_people"]),
    ("PATCH: 200 updatePerson", &["rest::a_patch_is_200_with_update_person"]),
    ("DELETE destroys unless soft_delete=true", &["rest::a_delete_destroys_unless_it_is_soft"]),
    ("DELETE by filter has no row cap", &["rest::a_delete_by_filter_has_no_row_cap"]),
    ("batch maximum 200", &["rest::a_batch_holds_200_and_no_more"]),
    ("batch update of differing data only as batch upsert", &["upsert::differing_data_is_updated_in_a_batch_only_by_upsert"]),
    ("limit 60 by default, silently clamped to 200", &["rest::a_limit_is_60_unless_told_and_silently_clamped_to_200"]),
    ("depth 0 or 1", &["rest::depth_is_0_or_1"]),
    ("a client may choose the id", &["rest::a_client_may_choose_the_id"]),
    ("createdAt, updatedAt, deletedAt are writable", &["rest::times_are_writable"]),
    ("every accepted PATCH bumps updatedAt, even {}", &["rest::every_patch_bumps_updated_at_even_an_empty_one"]),
    ("If-Match is ignored", &["rest::if_match_is_ignored"]),
    ("body limit 10 MB, above: 500", &["rest::a_body_above_10_mb_is_500"]),
    ("URL and headers about 16 KB: 350 ids pass, 380 give 431", &["rest::a_head_above_16_kb_is_431"]),
    ("errors {statusCode, error, messages}", &["rest::errors_have_status_code_error_and_messages"]),
    ("unique violation: 400 with its message", &["rest::a_duplicate_is_400_and_told"]),
    ("NUL byte: 500", &["rest::a_nul_byte_is_500"]),
    ("filters a[op]:v, b.c[op]:v, and() or() not()", &["filters::filters_compare_and_join", "filters::a_filter_reaches_into_composites"]),
    ("in splits on commas even inside quotes", &["filters::in_splits_on_commas_even_inside_quotes"]),
    ("unbalanced parentheses or quotes: 400", &["filters::unbalanced_parentheses_or_quotes_are_400"]),
    ("[eq]:\"NULL\" matches every empty row", &["filters::eq_null_in_quotes_matches_every_empty_row"]),
    ("neq and not drop NULL rows", &["filters::neq_and_not_drop_null_rows"]),
    ("DATE_TIME in filters: at most 3 fraction digits", &["filters::a_time_in_a_filter_has_at_most_3_fraction_digits"]),
    ("external keys: GraphQL variables with in", &["graphql::external_keys_are_found_by_variables_with_in"]),
    ("deletedAt[is]:NOT_NULL lists deleted rows", &["filters::deleted_at_not_null_lists_deleted_rows"]),
    ("PATCH {deletedAt:null} restores", &["rest::patching_deleted_at_to_null_restores"]),
    // Paging
    ("a nullable order silently loses rows", &["filters::ordering_by_a_nullable_field_loses_rows_silently"]),
    ("an order by updatedAt skips within a millisecond", &["filters::ordering_by_updated_at_skips_rows_within_one_millisecond"]),
    ("the default order is by id", &["filters::the_default_order_is_by_id_and_loses_nothing", "graphql::pages_are_walked_by_cursor"]),
    ("destroyed rows leave no trace; totalCount tells", &["filters::destroyed_rows_leave_no_trace_but_the_count", "filters::a_row_that_comes_behind_the_reader_is_missed_and_counted"]),
    ("GraphQL first is uncapped, one token", &["graphql::first_is_uncapped_for_one_token", "graphql::several_roots_cost_one_token"]),
    ("at most 20 root resolvers", &["graphql::at_most_20_root_resolvers_are_answered"]),
    ("no aliased multi-updates", &["graphql::aliased_multi_updates_are_refused"]),
    ("unknown fields come back null", &["graphql::unknown_fields_come_back_null"]),
    // Rate limit
    ("a token bucket a workspace", &["limits::the_bucket_is_shared_by_all_calls"]),
    ("100 calls a minute, one token per 600 ms", &["limits::a_token_comes_every_600_ms"]),
    ("100 calls a second", &["limits::there_is_a_limit_a_second_as_well"]),
    ("the 101st: 429 without Retry-After", &["limits::the_101st_call_is_429_without_a_retry_after"]),
    ("over GraphQL: 200 with LIMIT_REACHED", &["limits::the_limit_over_graphql_is_200_with_limit_reached"]),
    ("a hosted plan can be lower", &["limits::a_hosted_plan_can_be_lower"]),
    // Upsert
    ("matches on id", &["upsert::an_upsert_matches_on_id"]),
    ("matches on any unique index", &["upsert::an_upsert_matches_on_any_unique_index"]),
    ("overwrites the contactId of who owns the email", &["upsert::an_upsert_takes_over_who_holds_the_email"]),
    ("soft-deleted rows included, and un-deletes them", &["upsert::an_upsert_finds_soft_deleted_rows_and_brings_them_back"]),
    ("batch upsert is not atomic", &["upsert::a_batch_upsert_is_not_atomic"]),
    ("plain batch create is atomic", &["rest::a_plain_batch_is_atomic"]),
    ("the answer's order is not the request's", &["upsert::a_batch_upsert_does_not_answer_in_order"]),
    // What is written is not what is read back
    ("any composite = null: silently ignored", &["values::a_composite_that_is_null_is_silently_ignored"]),
    ("TEXT: null reads back \"\", \"\" is stored as NULL", &["values::text_null_reads_back_empty_and_empty_is_kept_as_null"]),
    ("TEXT: no trimming", &["values::text_is_not_trimmed"]),
    ("TEXT: unique is case-sensitive", &["values::unique_text_is_case_sensitive_and_empty_is_not_unique"]),
    ("emails: lower-cased", &["values::emails_are_lower_cased"]),
    ("emails: spaces or invalid: 400", &["values::emails_with_spaces_or_invalid_are_400"]),
    ("emails: a patch without primaryEmail wipes it", &["values::an_emails_patch_without_primary_email_wipes_it"]),
    ("phones: parsed by libphonenumber, +447911... is GG", &["values::phones_are_parsed"]),
    ("phones: no + and no country: 400", &["values::a_phone_without_plus_and_country_is_400"]),
    ("phones: extension dropped", &["values::an_extension_is_dropped"]),
    ("phones: a patch without additionalPhones wipes them", &["values::a_phones_patch_without_additional_phones_wipes_them"]),
    ("phones: to clear, empty all four", &["values::phones_are_cleared_by_emptying_all_four"]),
    ("links: origin lower-cased, slash and default port removed", &["values::links_lose_case_in_the_origin_a_slash_and_a_default_port"]),
    ("links: a partial patch replaces all", &["values::a_partial_patch_of_links_replaces_all"]),
    ("name, address, currency: sub-fields merge", &["values::name_address_and_currency_merge"]),
    ("NUMBER: double; a string: 400", &["values::a_number_is_a_double_and_a_string_is_400"]),
    ("RAW_JSON: jsonb reorders keys", &["values::raw_json_reorders_keys"]),
    ("RAW_JSON: {} and [] read back null", &["values::raw_json_loses_empty_values_at_the_top"]),
    ("RAW_JSON: big integers lose precision, 1.0 becomes 1", &["values::raw_json_numbers_are_doubles"]),
    ("RAW_JSON: scalars: 400", &["values::raw_json_scalars_are_400"]),
    ("DATE_TIME: UTC, .SSSZ, microseconds cut, \"\": 400", &["values::a_date_time_is_utc_with_milliseconds"]),
    ("MULTI_SELECT, ARRAY: null reads back []", &["values::multi_select_and_array_read_null_back_as_empty"]),
    // Objects
    ("Person's fields, no city", &["objects::a_person_has_its_fields_and_no_city"]),
    ("emails unique on primary", &["objects::primary_email_is_unique_and_additional_ones_are_not"]),
    ("Company's fields, domainName unique", &["objects::a_company_has_its_fields_and_a_unique_domain"]),
    ("updatedBy = {source: API, name: key's name}", &["objects::api_writes_are_signed_with_the_keys_name"]),
    ("additional emails and phones are accepted", &["values::additional_emails_and_phones_are_accepted"]),
    // Custom fields and objects
    ("POST metadata/fields: 201, usable at once", &["objects::a_field_is_created_with_201_and_usable_at_once"]),
    ("names match ^[a-z][a-zA-Z0-9]*$, some are reserved", &["objects::names_are_letters_and_digits_and_some_are_reserved"]),
    ("the types that worked", &["objects::the_types_that_worked_work_and_no_others", "values::select_boolean_date_and_uuid_hold_what_they_are_for"]),
    ("SELECT options", &["objects::options_are_upper_snake_with_label_position_and_color"]),
    ("POST metadata/objects", &["objects::an_object_is_created_and_listed"]),
    ("GET lists objects with fields", &["objects::objects_are_listed_with_their_fields"]),
    ("a junction with two MANY_TO_ONE relations", &["objects::a_junction_has_two_relations_by_id"]),
    ("destroying a person leaves orphan junction rows", &["objects::destroying_a_person_leaves_orphan_junction_rows"]),
    ("no composite unique: a unique TEXT linkKey", &["objects::a_link_key_is_unique_where_no_pair_is"]),
    ("isUnique: one value, one record", &["objects::a_field_is_created_with_201_and_usable_at_once", "upsert::an_upsert_matches_on_any_unique_index"]),
    // Webhooks
    ("POST metadata/webhooks {targetUrl, operations: [\"person.*\"], secret}", &["hooks::every_kind_of_event_is_sent", "hooks::a_webhook_has_to_make_sense"]),
    ("created, updated, deleted, restored, destroyed", &["hooks::every_kind_of_event_is_sent"]),
    ("one POST a record", &["hooks::there_is_one_post_a_record"]),
    ("the body's shape, updatedFields", &["hooks::a_body_says_what_happened_to_which_record"]),
    ("timestamp, signature, nonce", &["hooks::a_body_is_signed_with_the_time"]),
    ("no retries", &["hooks::a_failed_delivery_is_not_tried_again"]),
    ("5 s timeout", &["hooks::a_receiver_that_hangs_is_given_up_and_holds_nobody_up"]),
    ("no ordering", &["hooks::deliveries_come_in_no_order"]),
    ("a PATCH that changes nothing fires none", &["hooks::a_patch_that_changes_nothing_fires_none"]),
];

/// The sources that [`FACTS`] refers to.
const SOURCES: [(&str, &str); 8] = [
    ("filters", include_str!("sandbox/filters.rs")),
    ("graphql", include_str!("sandbox/graphql.rs")),
    ("hooks", include_str!("sandbox/hooks.rs")),
    ("limits", include_str!("sandbox/limits.rs")),
    ("objects", include_str!("sandbox/objects.rs")),
    ("rest", include_str!("sandbox/rest.rs")),
    ("upsert", include_str!("sandbox/upsert.rs")),
    ("values", include_str!("sandbox/values.rs")),
];

#[test]
fn every_fact_has_its_tests() {
    for (fact, tests) in FACTS {
        assert!(!tests.is_empty(), "{fact}: no test");
        for test in *tests {
            let (module, name) = test.split_once("::").expect("module::name");
            let source = SOURCES.iter().find(|(known, _)| *known == module);
            let source = source.unwrap_or_else(|| panic!("{test}: no such module")).1;
            assert!(source.contains(&format!("#[tokio::test]\nasync fn {name}()")), "{fact}: {test} is gone");
        }
    }
}
