/*
 * compat.h - every difference between PostgreSQL major versions, in one place.
 *
 * Owns:    nothing; macros and inline shims shaped like the newest API.
 * Locking: none.
 * Runs in: every process.
 */
#ifndef KIN_COMPAT_H
#define KIN_COMPAT_H

#include "access/htup_details.h"
#include "access/relation.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000
#error "kinesis needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The number of a relation's file; 16 renamed relfilenodes to relfilenumbers (commit b0a55e432). */
#if PG_VERSION_NUM >= 160000
#define kin_file_of(rel) ((rel)->rd_locator.relNumber)
#define kin_path_of(rel) relpathbackend((rel)->rd_locator, (rel)->rd_backend, MAIN_FORKNUM)
#else
#define kin_file_of(rel)                 ((rel)->rd_node.relNode)
#define kin_path_of(rel)                 relpathbackend((rel)->rd_node, (rel)->rd_backend, MAIN_FORKNUM)
#define RelationSetNewRelfilenumber(...) RelationSetNewRelfilenode(__VA_ARGS__)
#endif

/* 16 has one function for the rights on every kind of object (commit afbfc0298). */
#if PG_VERSION_NUM >= 160000
#define kin_may_execute(function, role)                                                                                \
	(object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK)
#define kin_owns_database(database, role)   object_ownercheck(DatabaseRelationId, database, role)
#define kin_owns_extension(extension, role) object_ownercheck(ExtensionRelationId, extension, role)
#else
#define kin_may_execute(function, role)     (pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK)
#define kin_owns_database(database, role)   pg_database_ownercheck(database, role)
#define kin_owns_extension(extension, role) pg_extension_ownercheck(extension, role)
#endif

/* A lexer of JSON in UTF-8 that leaves escapes alone; 17 may be given the room for it. */
#if PG_VERSION_NUM >= 170000
#define kin_json_lexer(text, len) makeJsonLexContextCstringLen(NULL, text, len, PG_UTF8, false)
#else
#define kin_json_lexer(text, len) makeJsonLexContextCstringLen(unconstify(char *, text), len, PG_UTF8, false)
#endif

/* 16 extends heaps by many pages itself and writes no zeros where the file system spares it; before that it is up to us. */
#if defined(__linux__) && PG_VERSION_NUM < 160000
#define KIN_RESERVES_PAGES
#endif

/*
 * Makes a tuple header that of a composite datum.  Minor releases from November 2026 on (15.20) mark such tuples with the
 * version of their row type, and refuse to read them without.
 */
static inline void
kin_set_datum(HeapTupleHeader header, TupleDesc columns, uint32 len)
{
#ifdef VersionedDatumOffsetNumber
	heap_tuple_set_datum(header, columns, len);
#else
	HeapTupleHeaderSetDatumLength(header, len);
	HeapTupleHeaderSetTypeId(header, columns->tdtypeid);
	HeapTupleHeaderSetTypMod(header, columns->tdtypmod);
#endif
}

/* Raises an error when a composite datum is of another version of its row type than these columns. */
static inline void
kin_check_datum(HeapTupleHeader header, TupleDesc columns)
{
#ifdef VersionedDatumOffsetNumber
	if (HeapTupleHeaderIsVersionedDatum(header))
		heap_datum_check(header, columns);
#endif
}

/*
 * Adds one empty page at the end of a heap and returns its block number.  16 moved relation extension behind
 * ExtendBufferedRel (commit 31966b151).
 */
static inline BlockNumber
kin_extend_heap(Relation rel)
{
	Buffer buffer;
	BlockNumber block;

#if PG_VERSION_NUM >= 160000
	buffer = ExtendBufferedRel(BMR_REL(rel), MAIN_FORKNUM, NULL, EB_LOCK_FIRST);
#else
	LockRelationForExtension(rel, ExclusiveLock);
	buffer = ReadBufferExtended(rel, MAIN_FORKNUM, P_NEW, RBM_ZERO_AND_LOCK, NULL);
	UnlockRelationForExtension(rel, ExclusiveLock);
#endif
	PageInit(BufferGetPage(buffer), BufferGetPageSize(buffer), 0);
	MarkBufferDirty(buffer);
	block = BufferGetBlockNumber(buffer);
	UnlockReleaseBuffer(buffer);
	return block;
}

#endif
