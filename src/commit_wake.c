/*
 * commit_wake.c - wakes readers when a transaction that wrote to their shards has ended.
 *
 * Owns:    the list of slots the current transaction has written to (backend memory, kept across transactions).
 * Locking: none of its own; the counters are atomics because the end of a transaction must not wait for a shard's lock.
 * Runs in: backends.  The callbacks are registered once a process: core never frees them.
 *
 * A reader that wakes must see all that was committed.  At the end-of-transaction callbacks the transaction has left the
 * proc array, so a new snapshot sees its records; but its invalidations go out only after them, so a reader woken there
 * could still believe that a shard just closed is open, and sleep on.  Hence we wake when the transaction's resources
 * are released, which comes after the invalidations.  An abort wakes too: records behind an aborted one become readable.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "commit_wake.h"
#include "shard_watch.h"
#include "worker_pool.h"

typedef struct Written
{
	KinShardSlot *slot;
	int generation;
} Written;

static Written *written;
static int written_count;
static int written_size;
static bool must_wake; /* the transaction has ended, its readers are not woken yet */

static ProcessUtility_hook_type prev_process_utility;

void
kin_reserve_writer(void)
{
	if (written_count < written_size)
		return;
	written_size = Max(64, written_size * 2);
	if (written == NULL)
		written = MemoryContextAlloc(TopMemoryContext, written_size * sizeof(Written));
	else
		written = repalloc(written, written_size * sizeof(Written));
}

void
kin_join_writers(KinShardSlot *slot)
{
	/* Newest first: a transaction mostly writes to the shard it wrote to before. */
	for (int i = written_count - 1; i >= 0; i--)
		if (written[i].slot == slot)
			return;
	Assert(written_count < written_size);
	kin_slot_settle(slot);
	written[written_count++] = (Written){.slot = slot, .generation = slot->generation};
	pg_atomic_fetch_add_u32(&slot->writers[slot->generation], 1);
}

static void
wake_all(void)
{
	for (int i = 0; i < written_count; i++)
	{
		ConditionVariableBroadcast(&written[i].slot->readable);
		kin_watch_wake(written[i].slot);
	}
}

static void
leave_writers(void)
{
	for (int i = 0; i < written_count; i++)
		pg_atomic_fetch_sub_u32(&written[i].slot->writers[written[i].generation], 1);
	must_wake = true;
}

static void
resources_released(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (!must_wake || phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	must_wake = false;
	wake_all();
	written_count = 0;
}

/*
 * A prepared transaction goes on without a backend.  It stops counting as a writer, but the slot remembers how far it
 * was settled, and whoever looks for open records starts from there while prepared transactions exist.
 */
static void
mark_prepared(void)
{
	for (int i = 0; i < written_count; i++)
	{
		KinShardSlot *slot = written[i].slot;

		LWLockAcquire(&slot->lock, LW_EXCLUSIVE);
		kin_slot_settle(slot);
		if (slot->prepared_floor < 0)
			slot->prepared_floor = slot->settled;
		LWLockRelease(&slot->lock);
	}
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (written_count == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			/* Here and not at PREPARE, where the transaction is already out of the proc array: no gap in between. */
			mark_prepared();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			leave_writers();
			break;
		default:
			break;
	}
}

/* ROLLBACK TO SAVEPOINT makes what others wrote behind the lost records readable at once. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		wake_all();
}

/* COMMIT PREPARED and ROLLBACK PREPARED end another session's transaction: wake whoever waits in this database. */
static void
wake_after_prepared(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
					ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	bool ends_prepared = false;

	if (IsA(pstmt->utilityStmt, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) pstmt->utilityStmt)->kind;

		ends_prepared = kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
	}
	if (prev_process_utility)
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	if (ends_prepared)
	{
		kin_slot_wake_database();
		kin_watch_wake_database();
		kin_pool_ring(MyDatabaseId);
	}
}

void
kin_commit_wake_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
	RegisterResourceReleaseCallback(resources_released, NULL);
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = wake_after_prepared;
}
