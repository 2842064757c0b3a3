/*
 * database_hold.c - keeps our processes out of the way of commands that want a database, or the extension, for themselves.
 *
 * Owns:    nothing.
 * Locking: none; kin_pool_hold() waits until the processes have left.
 * Runs in: backends.
 *
 * DROP DATABASE, RENAME, SET TABLESPACE and CREATE DATABASE with this one as template give up when somebody is connected, and
 * DROP EXTENSION would wait for the transactions of workers.  They are sent away before the command, and are kept out until its
 * transaction has ended, one way or the other; then the launcher looks what has become of the database.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "compat.h"
#include "database_hold.h"
#include "worker_pool.h"

static ProcessUtility_hook_type prev_process_utility;
/* Until the transaction ends: the command may be undone. */
static bool holding;
static bool databases_change;


/* The database that CREATE DATABASE copies. */
static const char *
template_name(CreatedbStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			return defGetString(option);
	}
	return "template1";
}

static bool
moves_database(AlterDatabaseStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->options)
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			return true;
	return false;
}

/* The database that a command wants for itself; NULL for all other commands. */
static const char *
wanted_database(Node *stmt, bool *owner_only)
{
	*owner_only = true;
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE ? ((RenameStmt *) stmt)->subname : NULL;
		case T_AlterDatabaseStmt:
			return moves_database((AlterDatabaseStmt *) stmt) ? ((AlterDatabaseStmt *) stmt)->dbname : NULL;
		case T_CreatedbStmt:
			*owner_only = false;
			return template_name((CreatedbStmt *) stmt);
		default:
			return NULL;
	}
}

static bool
drops_extension(Node *stmt)
{
	ListCell *cell;

	if (!IsA(stmt, DropStmt) || ((DropStmt *) stmt)->removeType != OBJECT_EXTENSION)
		return false;
	foreach (cell, ((DropStmt *) stmt)->objects)
		if (strcmp(strVal(lfirst(cell)), "kinesis") == 0)
			return true;
	return false;
}

static bool
may_create_databases(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may;
}

/* Those who may create databases may copy it. */
static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool is = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return is;
}

/* Nobody may disturb a database by a command that he may not run. */
static bool
may_want(Oid database, bool owner_only)
{
	return kin_owns_database(database, GetUserId()) || (!owner_only && may_create_databases() && is_template(database));
}

static bool
may_drop_extension(void)
{
	Oid extension = get_extension_oid("kinesis", true);

	return OidIsValid(extension) && kin_owns_extension(extension, GetUserId());
}

static void
hold_and_run(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node *stmt = pstmt->utilityStmt;
	bool owner_only;
	const char *name = wanted_database(stmt, &owner_only);
	Oid database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && !may_want(database, owner_only))
		database = InvalidOid;
	else if (drops_extension(stmt) && may_drop_extension())
		database = MyDatabaseId;
	/* A transaction has one at most: whatever more it wants has to wait for us like for anybody. */
	if (OidIsValid(database) && !holding && !RecoveryInProgress())
	{
		holding = true;
		kin_pool_hold(database);
	}
	/* There may be a new database, with mappings that it has from its template, or one that can be connected to now. */
	databases_change |= IsA(stmt, CreatedbStmt) || IsA(stmt, AlterDatabaseStmt);
	if (prev_process_utility)
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

/* Only now can the launcher see what has become of the database. */
static void
transaction_ended(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (holding)
		kin_pool_release();
	if (databases_change)
		kin_pool_ring_all();
	holding = databases_change = false;
}

void
kin_database_hold_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = hold_and_run;
}
