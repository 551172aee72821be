-- What the store `bigquery` needs, from its manifests; made by `trueup schema --sql`.
-- Adds what is missing, drops and rewrites nothing, and may be run again.
CREATE SCHEMA IF NOT EXISTS `identity`;

CREATE TABLE IF NOT EXISTS `identity`.`businesses` (`business_id` STRING NOT NULL) CLUSTER BY `business_id`;
ALTER TABLE `identity`.`businesses`
  ADD COLUMN IF NOT EXISTS `name` STRING,
  ADD COLUMN IF NOT EXISTS `name_normalized` STRING,
  ADD COLUMN IF NOT EXISTS `kind` STRING,
  ADD COLUMN IF NOT EXISTS `parent_business_id` STRING,
  ADD COLUMN IF NOT EXISTS `website` STRING,
  ADD COLUMN IF NOT EXISTS `email` STRING,
  ADD COLUMN IF NOT EXISTS `phone` STRING,
  ADD COLUMN IF NOT EXISTS `address` STRING,
  ADD COLUMN IF NOT EXISTS `description` STRING,
  ADD COLUMN IF NOT EXISTS `notes` STRING,
  ADD COLUMN IF NOT EXISTS `llm_context` JSON,
  ADD COLUMN IF NOT EXISTS `metadata` JSON,
  ADD COLUMN IF NOT EXISTS `created_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `updated_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `sync_metadata` STRUCT<`last_updated` TIMESTAMP, `last_updated_by` STRING, `source_systems` ARRAY<STRING>, `sync_errors` ARRAY<STRUCT<`at` TIMESTAMP, `store` STRING, `field` STRING, `rule` STRING, `message` STRING>>, `sync_status` STRING, `version` INT64>;

CREATE TABLE IF NOT EXISTS `identity`.`contacts_master` (`contact_id` INT64 NOT NULL) CLUSTER BY `contact_id`;
ALTER TABLE `identity`.`contacts_master`
  ADD COLUMN IF NOT EXISTS `canonical_name` STRING,
  ADD COLUMN IF NOT EXISTS `name_normalized` STRING,
  ADD COLUMN IF NOT EXISTS `first_name` STRING,
  ADD COLUMN IF NOT EXISTS `last_name` STRING,
  ADD COLUMN IF NOT EXISTS `middle_name` STRING,
  ADD COLUMN IF NOT EXISTS `nickname` STRING,
  ADD COLUMN IF NOT EXISTS `name_suffix` STRING,
  ADD COLUMN IF NOT EXISTS `title` STRING,
  ADD COLUMN IF NOT EXISTS `full_name` STRING,
  ADD COLUMN IF NOT EXISTS `organization` STRING,
  ADD COLUMN IF NOT EXISTS `job_title` STRING,
  ADD COLUMN IF NOT EXISTS `department` STRING,
  ADD COLUMN IF NOT EXISTS `primary_business_id` STRING,
  ADD COLUMN IF NOT EXISTS `is_business` BOOL,
  ADD COLUMN IF NOT EXISTS `category_code` STRING,
  ADD COLUMN IF NOT EXISTS `subcategory_code` STRING,
  ADD COLUMN IF NOT EXISTS `relationship_category` STRING,
  ADD COLUMN IF NOT EXISTS `llm_context` JSON,
  ADD COLUMN IF NOT EXISTS `communication_stats` JSON,
  ADD COLUMN IF NOT EXISTS `social_network` JSON,
  ADD COLUMN IF NOT EXISTS `ai_insights` JSON,
  ADD COLUMN IF NOT EXISTS `recommendations` JSON,
  ADD COLUMN IF NOT EXISTS `notes` STRING,
  ADD COLUMN IF NOT EXISTS `birthday` DATE,
  ADD COLUMN IF NOT EXISTS `is_me` BOOL,
  ADD COLUMN IF NOT EXISTS `first_seen_in_primitive_engine` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `last_seen_in_primitive_engine` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `created_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `updated_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `sync_metadata` STRUCT<`last_updated` TIMESTAMP, `last_updated_by` STRING, `source_systems` ARRAY<STRING>, `sync_errors` ARRAY<STRUCT<`at` TIMESTAMP, `store` STRING, `field` STRING, `rule` STRING, `message` STRING>>, `sync_status` STRING, `version` INT64>;

CREATE TABLE IF NOT EXISTS `identity`.`contact_identifiers` (`identifier_id` STRING NOT NULL) CLUSTER BY `identifier_id`;
ALTER TABLE `identity`.`contact_identifiers`
  ADD COLUMN IF NOT EXISTS `contact_id` INT64,
  ADD COLUMN IF NOT EXISTS `identifier_type` STRING,
  ADD COLUMN IF NOT EXISTS `identifier_value` STRING,
  ADD COLUMN IF NOT EXISTS `identifier_normalized` STRING,
  ADD COLUMN IF NOT EXISTS `source_platform` STRING,
  ADD COLUMN IF NOT EXISTS `source_label` STRING,
  ADD COLUMN IF NOT EXISTS `country_code` STRING,
  ADD COLUMN IF NOT EXISTS `area_code` STRING,
  ADD COLUMN IF NOT EXISTS `local_number` STRING,
  ADD COLUMN IF NOT EXISTS `email_domain` STRING,
  ADD COLUMN IF NOT EXISTS `social_service` STRING,
  ADD COLUMN IF NOT EXISTS `social_username` STRING,
  ADD COLUMN IF NOT EXISTS `social_url` STRING,
  ADD COLUMN IF NOT EXISTS `is_primary` BOOL,
  ADD COLUMN IF NOT EXISTS `is_private` BOOL,
  ADD COLUMN IF NOT EXISTS `is_verified` BOOL,
  ADD COLUMN IF NOT EXISTS `confidence` FLOAT64,
  ADD COLUMN IF NOT EXISTS `verification_status` STRING,
  ADD COLUMN IF NOT EXISTS `first_seen` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `last_seen` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `created_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `updated_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `sync_metadata` STRUCT<`last_updated` TIMESTAMP, `last_updated_by` STRING, `source_systems` ARRAY<STRING>, `sync_errors` ARRAY<STRUCT<`at` TIMESTAMP, `store` STRING, `field` STRING, `rule` STRING, `message` STRING>>, `sync_status` STRING, `version` INT64>;

CREATE TABLE IF NOT EXISTS `identity`.`people_businesses` (`contact_id` INT64 NOT NULL, `business_id` STRING NOT NULL) CLUSTER BY `contact_id`, `business_id`;
ALTER TABLE `identity`.`people_businesses`
  ADD COLUMN IF NOT EXISTS `role` STRING,
  ADD COLUMN IF NOT EXISTS `department` STRING,
  ADD COLUMN IF NOT EXISTS `start_date` DATE,
  ADD COLUMN IF NOT EXISTS `end_date` DATE,
  ADD COLUMN IF NOT EXISTS `is_primary` BOOL,
  ADD COLUMN IF NOT EXISTS `notes` STRING,
  ADD COLUMN IF NOT EXISTS `metadata` JSON,
  ADD COLUMN IF NOT EXISTS `created_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `updated_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `sync_metadata` STRUCT<`last_updated` TIMESTAMP, `last_updated_by` STRING, `source_systems` ARRAY<STRING>, `sync_errors` ARRAY<STRUCT<`at` TIMESTAMP, `store` STRING, `field` STRING, `rule` STRING, `message` STRING>>, `sync_status` STRING, `version` INT64>;

CREATE TABLE IF NOT EXISTS `identity`.`sync_conflicts` (`conflict_id` STRING NOT NULL) CLUSTER BY `conflict_id`;
ALTER TABLE `identity`.`sync_conflicts`
  ADD COLUMN IF NOT EXISTS `entity` STRING,
  ADD COLUMN IF NOT EXISTS `key` STRING,
  ADD COLUMN IF NOT EXISTS `source_store` STRING,
  ADD COLUMN IF NOT EXISTS `source_record` JSON,
  ADD COLUMN IF NOT EXISTS `target_store` STRING,
  ADD COLUMN IF NOT EXISTS `target_record` JSON,
  ADD COLUMN IF NOT EXISTS `fields` ARRAY<STRING>,
  ADD COLUMN IF NOT EXISTS `winner` STRING,
  ADD COLUMN IF NOT EXISTS `reason` STRING,
  ADD COLUMN IF NOT EXISTS `status` STRING,
  ADD COLUMN IF NOT EXISTS `created_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `resolved_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `resolved_by` STRING,
  ADD COLUMN IF NOT EXISTS `detail` JSON;

CREATE TABLE IF NOT EXISTS `identity`.`trueup_tombstones` (`tombstone_id` STRING NOT NULL) CLUSTER BY `tombstone_id`;
ALTER TABLE `identity`.`trueup_tombstones`
  ADD COLUMN IF NOT EXISTS `entity` STRING,
  ADD COLUMN IF NOT EXISTS `key` STRING,
  ADD COLUMN IF NOT EXISTS `version` INT64,
  ADD COLUMN IF NOT EXISTS `deleted_by` ARRAY<STRING>,
  ADD COLUMN IF NOT EXISTS `deleted_at` TIMESTAMP,
  ADD COLUMN IF NOT EXISTS `status` STRING,
  ADD COLUMN IF NOT EXISTS `records` JSON,
  ADD COLUMN IF NOT EXISTS `shadows` JSON;

CREATE TABLE IF NOT EXISTS `identity`.`trueup_passes` (`name` STRING NOT NULL) CLUSTER BY `name`;
ALTER TABLE `identity`.`trueup_passes`
  ADD COLUMN IF NOT EXISTS `number` INT64,
  ADD COLUMN IF NOT EXISTS `state` STRING,
  ADD COLUMN IF NOT EXISTS `holder` STRING,
  ADD COLUMN IF NOT EXISTS `at` TIMESTAMP;

CREATE TABLE IF NOT EXISTS `identity`.`trueup_receipts` (`batch` STRING NOT NULL, `note` STRING, `lost` STRING) CLUSTER BY `batch`;
