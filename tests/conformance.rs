//! One conformance suite that every store passes. A store takes part with a [`Harness`]: a way to make it, and to act on it as
//! another application would.

#[path = "conformance/bigquery.rs"]
mod bigquery;
#[path = "conformance/crm.rs"]
mod crm;
#[path = "emulator/mod.rs"]
mod emulator;
#[path = "conformance/harness.rs"]
mod harness;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/postgres.rs"]
mod postgres;
#[path = "conformance/reads.rs"]
mod reads;
#[path = "conformance/schema.rs"]
mod schema;
#[path = "server/mod.rs"]
mod server;
#[path = "conformance/sqlite.rs"]
mod sqlite;
#[path = "conformance/twenty.rs"]
mod twenty;
#[path = "conformance/values.rs"]
mod values;
#[path = "conformance/writes.rs"]
mod writes;

macro_rules! conformance {
    ($($module:ident::$case:ident,)*) => {
        mod on_bigquery {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
                crate::$module::$case::<crate::bigquery::OnBigQuery>().await;
            })*
        }
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
                crate::$module::$case::<crate::memory::OnMemory>().await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
                crate::$module::$case::<crate::postgres::OnPostgres>().await;
            })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
                crate::$module::$case::<crate::sqlite::OnSqlite>().await;
            })*
        }
    };
}

conformance! {
    reads::snapshots_come_in_the_order_of_keys,
    reads::composite_keys_are_ordered_part_by_part,
    reads::an_empty_table_is_a_complete_snapshot,
    reads::long_snapshots_come_whole,
    reads::rows_that_nobody_asks_for_are_left_out,
    reads::a_missing_column_is_unknown,
    reads::a_missing_table_is_an_error,
    reads::duplicate_keys_are_left_out_and_named,
    reads::reading_answers_every_key,
    reads::whole_rows_have_what_no_mapping_names,
    reads::unreadable_values_are_told_apart_and_not_shown,
    reads::metadata_is_read_as_written,
    writes::what_is_created_is_read_back,
    writes::creating_twice_moves_nothing,
    writes::updates_set_only_what_they_name,
    writes::what_is_put_back_after_our_write_is_told,
    writes::updates_without_metadata_leave_it,
    writes::a_moved_row_is_not_written,
    writes::a_changed_version_guards,
    writes::a_null_is_guarded_as_well,
    writes::an_unreadable_value_is_guarded_as_well,
    writes::deletes_are_guarded,
    writes::what_is_gone_has_moved,
    writes::one_bad_write_does_not_fail_the_others,
    writes::a_key_twice_in_a_batch_is_refused,
    writes::a_field_without_a_place_is_refused,
    writes::composite_keys_are_written_by_all_parts,
    writes::unmapped_columns_stay_as_they_are,
    writes::receipts_tell_what_was_applied,
    writes::of_two_racing_writers_one_wins,
    values::every_type_survives,
    values::forms_hold_what_they_say,
    values::an_empty_text_is_no_null,
    schema::migration_is_idempotent,
    schema::migration_adds_columns_and_keeps_rows,
    schema::names_are_not_statements,
}

/// What a CRM can do of it. It keeps no receipts and no tables of ours, has no conditional writes that a race could show, tells no
/// empty text from none, and takes neither values that are none of a field's type nor two records with one key; its own cases are in
/// `conformance/twenty.rs`.
macro_rules! crm_conformance {
    ($($module:ident::$case:ident,)*) => {
        mod on_twenty {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
                crate::$module::$case::<crate::twenty::OnTwenty>().await;
            })*
        }
    };
}

crm_conformance! {
    reads::snapshots_come_in_the_order_of_keys,
    reads::composite_keys_are_ordered_part_by_part,
    reads::an_empty_table_is_a_complete_snapshot,
    reads::long_snapshots_come_whole,
    reads::a_missing_column_is_unknown,
    reads::a_missing_table_is_an_error,
    reads::reading_answers_every_key,
    reads::metadata_is_read_as_written,
    writes::what_is_created_is_read_back,
    writes::creating_twice_moves_nothing,
    writes::updates_set_only_what_they_name,
    writes::updates_without_metadata_leave_it,
    writes::a_moved_row_is_not_written,
    writes::a_changed_version_guards,
    writes::a_null_is_guarded_as_well,
    writes::deletes_are_guarded,
    writes::what_is_gone_has_moved,
    writes::one_bad_write_does_not_fail_the_others,
    writes::a_key_twice_in_a_batch_is_refused,
    writes::a_field_without_a_place_is_refused,
    writes::composite_keys_are_written_by_all_parts,
    values::every_type_survives,
    values::forms_hold_what_they_say,
}
