-- The role of one branch in the database of a Postgres catalog: it owns its own schemas and may only read upstream's.
-- Run by an administrator once upstream has been written; running it again changes nothing:
--
--   psql "$CATALOG" --set ON_ERROR_STOP=1 --single-transaction \
--     --set role=branch_42 --set schema=branch_42 --set upstream=production --set owner=production -f role.sql
--
-- role      role of the branch; how it proves who it is (password, certificate, cloud identity) is set up elsewhere
-- schema    namespace of the branch: LLM_PLATFORM_NAMESPACE
-- upstream  namespace that it reads: LLM_PLATFORM_UPSTREAM
-- owner     role that writes upstream: tables that it makes later are readable, too

SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec

-- The schema of DuckLake's tables, and the one of the leases. What exists keeps its owner.
SELECT format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', name, :'role')
FROM (VALUES (:'schema'), (:'schema' || '_leases')) AS own (name) \gexec

GRANT USAGE ON SCHEMA :"upstream" TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA :"upstream" TO :"role";
-- DuckLake adds tables of its own to the catalog, e.g. for inlined rows.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"upstream" GRANT SELECT ON TABLES TO :"role";

-- The owner of upstream reads the branch, so that `llm-platform branch merge` can take over what it has paid.
GRANT USAGE ON SCHEMA :"schema" TO :"owner";
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I', :'role', :'schema', :'owner')
\gexec
