/*
 * remains_bind.c - binds what is left of a deleted stream to the extension.
 *
 * Owns:    nothing.
 * Locking: the caller holds the table.
 * Runs in: backends of a primary.
 *
 * The tables of a stream are no members of the extension, so that pg_dump dumps them, and depend on it, so that DROP
 * EXTENSION refuses.  When the stream was deleted and its tables still wait for kinesis.purge(), nobody is to be refused
 * for their sake: as an automatic dependent the uppermost table goes with the extension, and its partitions go with it.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "fmgr.h"

PG_FUNCTION_INFO_V1(kin_bind_remains);

/* kinesis._bind_remains(table) */
Datum
kin_bind_remains(PG_FUNCTION_ARGS)
{
	ObjectAddress table;
	ObjectAddress extension;

	ObjectAddressSet(table, RelationRelationId, PG_GETARG_OID(0));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("kinesis", false));
	(void) deleteDependencyRecordsForSpecific(RelationRelationId, table.objectId, DEPENDENCY_AUTO, ExtensionRelationId,
											  extension.objectId);
	recordDependencyOn(&table, &extension, DEPENDENCY_AUTO);
	PG_RETURN_VOID();
}
