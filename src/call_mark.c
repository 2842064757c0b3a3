/*
 * call_mark.c - remembers beyond a crash of the server which functions were running.
 *
 * Owns:    a file with an entry for each worker, and a list in shared memory of what was found in it.
 * Locking: an entry is written by its worker alone; the list has an LWLock.
 * Runs in: workers, the launcher, schedulers.
 *
 * A function that crashes its backend takes the server with it, and after the restart it would be called again, for ever.
 * Shared memory does not survive that, and a commit before each call would cost more than most calls do.  A write without
 * flush survives the death of processes, and that is all we ask: it costs a microsecond.  Who was running when the server was
 * killed from outside is suspected, too, so it takes several crashes in a row to convict.
 *
 * The file is in pg_stat_tmp, which no base backup copies.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "call_mark.h"
#include "settings_define.h"
#include "worker_pool.h"

#define MARK_FILE "pg_stat_tmp/kinesis_calls"
#define MARKS_MAX 256

typedef struct Mark
{
	int64 run; /* of the server: see MarkList; 0 = none */
	KinCallMark call;
	Oid database;
	int32 unused;
} Mark;

typedef struct MarkList
{
	int64 run; /* tells this run of the server from those before */
	int found; /* when this run began */
	int n;     /* not taken yet */
	Mark marks[MARKS_MAX];
} MarkList;

static MarkList *list;
static LWLock *list_lock;
static int file = -1;


void
kin_call_mark_request(void)
{
	RequestAddinShmemSpace(sizeof(MarkList));
	RequestNamedLWLockTranche("KinesisCalls", 1);
}

void
kin_call_mark_startup(void)
{
	bool found;

	list_lock = &GetNamedLWLockTranche("KinesisCalls")->lock;
	list = ShmemInitStruct("kinesis calls", sizeof(MarkList), &found);
	if (!found)
	{
		memset(list, 0, sizeof(MarkList));
		list->run = (int64) GetCurrentTimestamp();
	}
}

static void
write_mark(const Mark *mark)
{
	int place = kin_pool_my_place();

	/* Without a place for the mark the function runs all the same. */
	if (file >= 0 && place >= 0 && place < MARKS_MAX &&
		pwrite(file, mark, sizeof(*mark), (off_t) place * sizeof(*mark)) != sizeof(*mark))
		ereport(DEBUG1, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", MARK_FILE)));
}

static void
worker_exits(int code, Datum arg)
{
	kin_call_mark_clear();
}

void
kin_call_mark_set(int64 lane_id, int64 end, int64 invoked)
{
	Mark mark = {.run = list->run,
				 .call = {.lane_id = lane_id, .end = end, .invoked = invoked},
				 .database = MyDatabaseId};
	static bool tried;

	if (!tried)
	{
		tried = true;
		file = BasicOpenFile(MARK_FILE, O_RDWR | O_CREAT | PG_BINARY);
		if (file < 0)
			ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", MARK_FILE)));
		/* Before the place is given back, so that this comes first. */
		before_shmem_exit(worker_exits, (Datum) 0);
	}
	write_mark(&mark);
}

void
kin_call_mark_clear(void)
{
	Mark none = {0};

	write_mark(&none);
}

void
kin_call_marks_collect(void)
{
	int fd = OpenTransientFile(MARK_FILE, O_RDWR | PG_BINARY);
	Mark mark;
	off_t at = 0;

	if (fd < 0)
		return; /* never used */
	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	while (pread(fd, &mark, sizeof(mark), at) == sizeof(mark))
	{
		/* One of this run belongs to a worker that lives: only the launcher has been started again. */
		if (mark.run != 0 && mark.run != list->run && list->n < MARKS_MAX)
		{
			list->marks[list->n++] = mark;
			list->found++;
		}
		if (mark.run != list->run)
		{
			Mark none = {0};

			if (pwrite(fd, &none, sizeof(none), at) != sizeof(none))
				break;
		}
		at += sizeof(mark);
	}
	LWLockRelease(list_lock);
	CloseTransientFile(fd);
}

int
kin_call_marks_take(KinCallMark *calls, int most)
{
	int n = 0;
	int kept = 0;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < list->n; i++)
	{
		if (list->marks[i].database == MyDatabaseId && n < most)
		{
			calls[n] = list->marks[i].call;
			calls[n++].alone = list->found == 1;
		}
		else
			list->marks[kept++] = list->marks[i];
	}
	list->n = kept;
	LWLockRelease(list_lock);
	return n;
}
