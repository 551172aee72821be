-- What the store `supabase` needs, from its manifests; made by `trueup schema --sql`.
-- Adds what is missing, drops and rewrites nothing, and may be run again.

CREATE TABLE IF NOT EXISTS "public"."businesses" ("business_id" text COLLATE "C" NOT NULL, PRIMARY KEY ("business_id"));
ALTER TABLE "public"."businesses"
  ADD COLUMN IF NOT EXISTS "name" text,
  ADD COLUMN IF NOT EXISTS "name_normalized" text,
  ADD COLUMN IF NOT EXISTS "kind" text,
  ADD COLUMN IF NOT EXISTS "parent_business_id" text,
  ADD COLUMN IF NOT EXISTS "website" text,
  ADD COLUMN IF NOT EXISTS "email" text,
  ADD COLUMN IF NOT EXISTS "phone" text,
  ADD COLUMN IF NOT EXISTS "address" text,
  ADD COLUMN IF NOT EXISTS "description" text,
  ADD COLUMN IF NOT EXISTS "notes" text,
  ADD COLUMN IF NOT EXISTS "llm_context" jsonb,
  ADD COLUMN IF NOT EXISTS "metadata" jsonb,
  ADD COLUMN IF NOT EXISTS "created_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "updated_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "sync_metadata" jsonb;

CREATE TABLE IF NOT EXISTS "public"."contacts_master" ("contact_id" text COLLATE "C" NOT NULL, PRIMARY KEY ("contact_id"));
ALTER TABLE "public"."contacts_master"
  ADD COLUMN IF NOT EXISTS "canonical_name" text,
  ADD COLUMN IF NOT EXISTS "name_normalized" text,
  ADD COLUMN IF NOT EXISTS "first_name" text,
  ADD COLUMN IF NOT EXISTS "last_name" text,
  ADD COLUMN IF NOT EXISTS "middle_name" text,
  ADD COLUMN IF NOT EXISTS "nickname" text,
  ADD COLUMN IF NOT EXISTS "name_suffix" text,
  ADD COLUMN IF NOT EXISTS "title" text,
  ADD COLUMN IF NOT EXISTS "full_name" text,
  ADD COLUMN IF NOT EXISTS "organization" text,
  ADD COLUMN IF NOT EXISTS "job_title" text,
  ADD COLUMN IF NOT EXISTS "department" text,
  ADD COLUMN IF NOT EXISTS "primary_business_id" text,
  ADD COLUMN IF NOT EXISTS "is_business" boolean,
  ADD COLUMN IF NOT EXISTS "category_code" text,
  ADD COLUMN IF NOT EXISTS "subcategory_code" text,
  ADD COLUMN IF NOT EXISTS "relationship_category" text,
  ADD COLUMN IF NOT EXISTS "llm_context" jsonb,
  ADD COLUMN IF NOT EXISTS "communication_stats" jsonb,
  ADD COLUMN IF NOT EXISTS "social_network" jsonb,
  ADD COLUMN IF NOT EXISTS "ai_insights" jsonb,
  ADD COLUMN IF NOT EXISTS "recommendations" jsonb,
  ADD COLUMN IF NOT EXISTS "notes" text,
  ADD COLUMN IF NOT EXISTS "birthday" date,
  ADD COLUMN IF NOT EXISTS "is_me" boolean,
  ADD COLUMN IF NOT EXISTS "first_seen_in_primitive_engine" timestamptz,
  ADD COLUMN IF NOT EXISTS "last_seen_in_primitive_engine" timestamptz,
  ADD COLUMN IF NOT EXISTS "created_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "updated_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "sync_metadata" jsonb;

CREATE TABLE IF NOT EXISTS "public"."contact_identifiers" ("identifier_id" text COLLATE "C" NOT NULL, PRIMARY KEY ("identifier_id"));
ALTER TABLE "public"."contact_identifiers"
  ADD COLUMN IF NOT EXISTS "contact_id" text,
  ADD COLUMN IF NOT EXISTS "identifier_type" text,
  ADD COLUMN IF NOT EXISTS "identifier_value" text,
  ADD COLUMN IF NOT EXISTS "identifier_normalized" text,
  ADD COLUMN IF NOT EXISTS "source_platform" text,
  ADD COLUMN IF NOT EXISTS "source_label" text,
  ADD COLUMN IF NOT EXISTS "country_code" text,
  ADD COLUMN IF NOT EXISTS "area_code" text,
  ADD COLUMN IF NOT EXISTS "local_number" text,
  ADD COLUMN IF NOT EXISTS "email_domain" text,
  ADD COLUMN IF NOT EXISTS "social_service" text,
  ADD COLUMN IF NOT EXISTS "social_username" text,
  ADD COLUMN IF NOT EXISTS "social_url" text,
  ADD COLUMN IF NOT EXISTS "is_primary" boolean,
  ADD COLUMN IF NOT EXISTS "is_private" boolean,
  ADD COLUMN IF NOT EXISTS "is_verified" boolean,
  ADD COLUMN IF NOT EXISTS "confidence" double precision,
  ADD COLUMN IF NOT EXISTS "verification_status" text,
  ADD COLUMN IF NOT EXISTS "first_seen" timestamptz,
  ADD COLUMN IF NOT EXISTS "last_seen" timestamptz,
  ADD COLUMN IF NOT EXISTS "created_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "updated_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "sync_metadata" jsonb;

CREATE TABLE IF NOT EXISTS "public"."people_businesses" ("contact_id" text COLLATE "C" NOT NULL, "business_id" text COLLATE "C" NOT NULL, PRIMARY KEY ("contact_id", "business_id"));
ALTER TABLE "public"."people_businesses"
  ADD COLUMN IF NOT EXISTS "role" text,
  ADD COLUMN IF NOT EXISTS "department" text,
  ADD COLUMN IF NOT EXISTS "start_date" date,
  ADD COLUMN IF NOT EXISTS "end_date" date,
  ADD COLUMN IF NOT EXISTS "is_primary" boolean,
  ADD COLUMN IF NOT EXISTS "notes" text,
  ADD COLUMN IF NOT EXISTS "metadata" jsonb,
  ADD COLUMN IF NOT EXISTS "created_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "updated_at" timestamptz,
  ADD COLUMN IF NOT EXISTS "sync_metadata" jsonb;
